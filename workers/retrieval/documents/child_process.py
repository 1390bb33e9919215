"""Starts the child process that parses a document, sends it the bytes, and builds the Document from its output."""

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
from workers.retrieval.documents.charsets import Labels
from workers.retrieval.documents.kinds import Kind
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document, Section

_CHILD: Final = Path(__file__).with_name("child.py")
# The child's environment has no secrets, since it parses untrusted files.
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
_MIB: Final = 1024 * 1024
# The child limits its own CPU time. This wall-clock factor only ends a child that hangs, which none should; it must
# tolerate one that gets a small share of a busy machine.
_HANG_FACTOR: Final = 20
_KILLED: Final = {signal.SIGXCPU, signal.SIGKILL}


async def read_in_child(
    kind: Kind, data: bytes, limits: DocumentLimits, *, labels: Labels, on_page: Callable[[int, int], None]
) -> Document:
    """Parse a document in a child process, which has ended when this returns or raises.

    Raises:
        Refusal: the document cannot be parsed, or the child exceeded its limits.
        MissingExtra: the library for this kind is not installed.
    """
    limits = replace(limits, seconds=limits.cpu_seconds(kind, len(data)))
    process = await _start(kind, limits, labels)
    try:
        async with asyncio.timeout(_HANG_FACTOR * (1 + limits.seconds)):
            await _send(process, data)
            if (document := await _receive(process, on_page)) is not None:
                return document
            code = await process.wait()
    except TimeoutError as error:
        raise _limit_exceeded(limits) from error
    finally:
        await _kill(process)
    raise _crashed(code, limits)


async def _start(kind: Kind, limits: DocumentLimits, labels: Labels) -> Process:
    settings = json.dumps({"kind": kind, "labels": asdict(labels), "limits": asdict(limits)})
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(_CHILD), settings,
        stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        # The longest line is one section; a character takes up to 12 bytes in JSON.
        limit=12 * limits.text_chars + _MIB,
    )  # fmt: skip


async def _send(process: Process, data: bytes) -> None:
    assert process.stdin is not None  # noqa: S101
    try:
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        return  # the child exited before it had read everything; its output says why


async def _receive(process: Process, on_page: Callable[[int, int], None]) -> Document | None:
    """The document from the child's output; None if the child ends without a final line."""
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
        if line.endswith(b"\n"):  # otherwise the child was killed while writing it
            yield json.loads(line)


async def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it may have just ended
            process.kill()
    # Shielded, because the child stays a zombie if this task is cancelled again before the wait is over.
    await asyncio.shield(process.wait())


def _crashed(code: int, limits: DocumentLimits) -> Refusal:
    if -code in _KILLED:
        return _limit_exceeded(limits)
    how = signal.Signals(-code).name if code < 0 else f"code {code}"
    return Refusal(Reason.CORRUPT, f"crashed its parser ({how}); open it in a program for such files and save it again")


def _limit_exceeded(limits: DocumentLimits) -> Refusal:
    memory = f"{limits.memory_bytes // _MIB:,} MiB"
    problem = f"takes more than {limits.seconds:.3g} s of CPU time or {memory} to read; simplify or split it"
    return Refusal(Reason.TOO_LARGE, problem)
