"""The child process that reads one document: bytes on stdin, lines of JSON on stdout. Run by `reading`, by its path.

    ["page", number, of]                 while it reads a PDF
    ["section", text, page, heading]     then each section
    ["end", kind, pages]                 the last line, or one of these:
    ["refused", reason, problem]         the document cannot be read
    ["missing", package]                 a library is not installed

The limits are set before the first byte of the document is looked at. A parser that goes beyond them ends this process
or gets a MemoryError, and no other document is worse for it.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
import types
from pathlib import Path
from typing import Any


def main() -> None:
    """Read the document as the arguments say: kind, charset, limits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
    _take_workers_without_engine()
    settings = json.loads(sys.argv[1])
    _limit(settings["limits"]["seconds"], settings["limits"]["memory_bytes"])
    try:
        _read(settings)
    except ModuleNotFoundError as error:
        _say("missing", error.name)
    except MemoryError:
        allowed = settings["limits"]["memory_bytes"] >> 20
        _say("refused", "DocumentTooLarge", f"takes more than {allowed:,} MiB of memory to read; split it")
    except RecursionError:
        _say("refused", "DocumentCorrupt", "is nested too deeply")


def _take_workers_without_engine() -> None:
    """`workers/__init__` loads the engine, which takes a second and 100 MB: take the folder without that file."""
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
            continue  # macOS has no limit on memory; the time still ends it


def _read(settings: dict[str, Any]) -> None:
    import logging  # noqa: PLC0415

    from workers.retrieval.documents.kinds import Kind  # noqa: PLC0415
    from workers.retrieval.documents.limits import DocumentLimits  # noqa: PLC0415
    from workers.retrieval.documents.parsing import parse  # noqa: PLC0415
    from workers.retrieval.documents.refusal import Refusal  # noqa: PLC0415

    logging.disable()  # pypdf remarks on every flaw of a file
    limits = DocumentLimits(**settings["limits"])
    data = sys.stdin.buffer.read()
    try:
        document = parse(Kind(settings["kind"]), data, limits, charset=settings["charset"], on_page=_say_page)
    except Refusal as refusal:
        _say("refused", refusal.reason, refusal.problem)
        return
    for section in document.sections:
        _say("section", section.text, section.page, section.heading)
    _say("end", document.kind, document.pages)


def _say_page(number: int, of: int) -> None:
    _say("page", number, of)


def _say(*words: Any) -> None:
    sys.stdout.buffer.write(json.dumps(words).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
