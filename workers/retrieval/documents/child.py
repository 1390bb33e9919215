"""The child process that parses one document: bytes on stdin, lines of JSON on stdout. `child_process` runs this file.

    ["page", number, of]                 while a PDF is read
    ["wanted", pages]                    pages that need text recognition
    ["recognising", number, done, of]    before each of them, if it is in this process
    ["section", text, page, heading]     then each section
    ["unread", warnings, pages]          if a part of it cannot be read
    ["recognised", pages]                the pages whose text was recognised
    ["end", kind, pages]                 the last line, or one of these:
    ["refused", reason, problem]         the document cannot be parsed
    ["missing", package]                 a library is not installed

The limits are set before the first byte of the document is read. If a parser exceeds them, this process is killed or
gets a MemoryError, which does not affect other documents.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main() -> None:
    """Parse the document with the kind, labels and limits given as arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and kills its children
    _bypass_workers_init()
    settings = json.loads(sys.argv[1])
    _limit(settings["limits"]["seconds"], settings["limits"]["memory_bytes"])
    try:
        _read(settings)
    except ModuleNotFoundError as error:
        _send("missing", error.name)
    except MemoryError:
        allowed = settings["limits"]["memory_bytes"] >> 20
        _send("refused", "DocumentTooLarge", f"takes more than {allowed:,} MiB of memory to read; split it")


def _bypass_workers_init() -> None:
    """Register the package `workers` without running its `__init__`, which loads the engine (1 s and 100 MB)."""
    package = types.ModuleType("workers")
    package.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["workers"] = package


def _limit(seconds: float, memory_bytes: int) -> None:
    for kind, value in (
        (resource.RLIMIT_CPU, math.ceil(seconds)),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (allowed, allowed))
        except (ValueError, OSError):
            continue  # macOS cannot limit memory; the CPU limit still applies


def _read(settings: dict[str, Any]) -> None:
    import logging  # noqa: PLC0415

    from workers.retrieval.documents.charsets import Labels  # noqa: PLC0415
    from workers.retrieval.documents.kinds import Kind  # noqa: PLC0415
    from workers.retrieval.documents.limits import DocumentLimits  # noqa: PLC0415
    from workers.retrieval.documents.parsing import parse  # noqa: PLC0415
    from workers.retrieval.documents.refusal import Refusal, nested_too_deeply  # noqa: PLC0415

    logging.disable()  # pypdf logs every flaw of a file
    limits = DocumentLimits(**settings["limits"])
    data = sys.stdin.buffer.read()
    try:
        document = parse(
            Kind(settings["kind"]),
            data,
            limits,
            labels=Labels(**settings["labels"]),
            on_page=_send_page,
            skipped=settings.get("skipped", ()),
            recognition=_recognition(settings["recognition"]),
        )
    except (Refusal, RecursionError) as error:
        refusal = error if isinstance(error, Refusal) else nested_too_deeply()
        _send("refused", refusal.reason, refusal.problem)
        return
    for section in document.sections:
        _send("section", section.text, section.page, section.heading)
    if document.warnings:
        _send("unread", list(document.warnings), list(document.unread_pages))
    if document.recognised_pages:
        _send("recognised", list(document.recognised_pages))
    _send("end", document.kind, document.pages)


def _recognition(settings: dict[str, Any]) -> Any:
    """What the reader gets: the engine only if this process is one that may take its memory and time."""
    from workers.retrieval.documents.recognition.ports import Recognition  # noqa: PLC0415

    recogniser = None
    if settings["here"]:
        from workers.retrieval.documents.recognition.engine import load_engine  # noqa: PLC0415
        from workers.retrieval.documents.recognition.page_text import Recogniser  # noqa: PLC0415

        recogniser = Recogniser(load_engine(settings["threads"]), settings["pages"], settings["page_seconds"])
    return Recognition(settings["problem"], recogniser, _send_wanted, _send_recognising)


def _send_wanted(pages: Sequence[int]) -> None:
    _send("wanted", list(pages))


def _send_recognising(number: int, done: int, of: int) -> None:
    _send("recognising", number, done, of)


def _send_page(number: int, of: int) -> None:
    _send("page", number, of)


def _send(*message: Any) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
