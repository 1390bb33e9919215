"""Starts the child that reads a document, hands it the bytes, and makes a Document of what it says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from sessions.errors import MissingExtra
from workers.retrieval.documents.kinds import Kind
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document, Section

_CHILD: Final = Path(__file__).with_name("child.py")
# A child gets no secrets: what reads a stranger's file needs none.
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
_MIB: Final = 1024 * 1024
# The processor's time is the child's own limit. The clock only ends a child that waits for something, which none does;
# it must be patient with one that gets a tenth of a busy machine.
_STUCK: Final = 20
_KILLED: Final = {signal.SIGXCPU, signal.SIGKILL}


async def read_in_child(
    kind: Kind, data: bytes, limits: DocumentLimits, *, charset: str | None, on_page: Callable[[int, int], None]
) -> Document:
    """Read a document in a process of its own, which ends with this call, however this ends.

    Raises:
        Refusal: the document cannot be read, or the child went beyond its limits.
        MissingExtra: the library for this kind is not installed.
    """
    limits = replace(limits, seconds=limits.cpu_seconds(kind, len(data)))
    process = await _start(kind, limits, charset)
    try:
        async with asyncio.timeout(_STUCK * (1 + limits.seconds)):
            await _send(process, data)
            if (document := await _receive(process, on_page)) is not None:
                return document
            code = await process.wait()
    except TimeoutError as error:
        raise _beyond(limits) from error
    finally:
        await _end(process)
    raise _fallen(code, limits)


async def _start(kind: Kind, limits: DocumentLimits, charset: str | None) -> Process:
    settings = json.dumps({"kind": kind, "charset": charset, "limits": asdict(limits)})
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(_CHILD), settings,
        stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        # Of one line, which is at most one section: JSON writes a character in up to 12 bytes.
        limit=12 * limits.text_chars + _MIB,
    )  # fmt: skip


async def _send(process: Process, data: bytes) -> None:
    assert process.stdin is not None  # noqa: S101
    try:
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        return  # it ended before it had read everything; what it said tells why


async def _receive(process: Process, on_page: Callable[[int, int], None]) -> Document | None:
    """What the child says; None if it ends without an end."""
    sections: list[Section] = []
    async for words in _lines(process):
        match words:
            case ["page", int(number), int(of)]:
                on_page(number, of)
            case ["section", text, page, heading]:
                sections.append(Section(text, page, heading))
            case ["end", kind, pages]:
                return Document(kind, sections, pages)
            case ["refused", reason, problem]:
                raise Refusal(Reason(reason), problem)
            case ["missing", package]:
                needs = f"reading documents needs {package!r}; pip install 'sessionfleet[documents]'"
                raise MissingExtra(needs)
    return None


async def _lines(process: Process) -> AsyncIterator[list[Any]]:
    assert process.stdout is not None  # noqa: S101
    async for line in process.stdout:
        if line.endswith(b"\n"):  # else it was killed while it wrote
            yield json.loads(line)


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it may have ended this very moment
            process.kill()
    # Also if this task is cancelled again: a child that nobody waits for stays a zombie.
    await asyncio.shield(process.wait())


def _fallen(code: int, limits: DocumentLimits) -> Refusal:
    if -code in _KILLED:
        return _beyond(limits)
    how = signal.Signals(-code).name if code < 0 else f"code {code}"
    return Refusal(
        Reason.CORRUPT, f"made its parser fall over ({how}); open it in a program of its kind and save it anew"
    )


def _beyond(limits: DocumentLimits) -> Refusal:
    memory = f"{limits.memory_bytes // _MIB:,} MiB"
    problem = f"takes more than {limits.seconds:.3g} s of the processor or {memory} to read; simplify or split it"
    return Refusal(Reason.TOO_LARGE, problem)
