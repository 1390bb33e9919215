"""Starts the child process that parses a document, sends it the bytes, and builds the Document from its output."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import psutil

from sessions.errors import MissingExtra
from workers.retrieval.documents.charsets import Labels
from workers.retrieval.documents.kinds import Kind
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.recognition.limits import RecognitionLimits
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document, Section

_CHILD: Final = Path(__file__).with_name("child.py")
# The child's environment has no secrets, since it parses untrusted files.
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
_MIB: Final = 1024 * 1024
# The child limits its own CPU time, so it only needs to be ended here if it hangs: if it uses no CPU time for so long.
# How long it runs says nothing: on a busy machine a valid document may take an hour.
_HANG_SECONDS: Final = 600.0
# A PDF is read again without the page that crashed its reader, at most this many times.
_MOST_CRASHES: Final = 2
# CPU time for loading the models of text recognition, next to the limit of each page.
_LOADING_SECONDS: Final = 60.0
# OpenBLAS and OpenMP would start a thread for each processor, and each reserves some of the limited address space.
_ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
_KILLED: Final = {signal.SIGXCPU, signal.SIGKILL}


class _Wanted(Exception):
    """The child found pages that need text recognition, which the next child has."""

    def __init__(self, pages: int) -> None:
        super().__init__(pages)
        self.pages = pages


class _Crashed(Exception):
    """The child ended without a result. `page` is the one that it was reading, 1-based."""

    def __init__(self, code: int, page: int) -> None:
        super().__init__(code, page)
        self.code = code
        self.page = page


async def read_in_child(
    kind: Kind,
    data: bytes,
    limits: DocumentLimits,
    *,
    labels: Labels,
    recognition: RecognitionLimits,
    on_page: Callable[[int, int], None],
) -> Document:
    """Parse a document in a child process, which has ended when this returns or raises.

    A document that needs text recognition gets a second child, with the limits of recognition.

    Raises:
        Refusal: the document cannot be parsed, or the child exceeded its limits.
        MissingExtra: the library for this kind is not installed.
    """
    limits = replace(limits, seconds=limits.cpu_seconds(kind, len(data)))
    settings: dict[str, Any] = {"kind": kind, "labels": asdict(labels), "recognition": {"problem": recognition.problem}}
    skipped: list[int] = []
    wanted = recognition.pages if kind is Kind.PICTURE and not recognition.problem else 0
    while True:
        allowed = _with_recognition(limits, recognition, wanted) if wanted else limits
        settings["limits"], settings["skipped"] = asdict(allowed), skipped
        settings["recognition"] |= {**asdict(recognition), "here": wanted > 0}
        try:
            return await _read_once(settings, data, allowed, on_page)
        except _Wanted as found:
            wanted = min(found.pages, recognition.pages)
        except _Crashed as crash:
            is_new = kind is Kind.PDF and -crash.code not in _KILLED and crash.page not in (0, *skipped)
            if is_new and len(skipped) < _MOST_CRASHES:
                skipped.append(crash.page)
            elif wanted and kind is Kind.PDF:  # the text that needs no recognition can be read without it
                recognition = replace(recognition, problem=f"text recognition failed: {_how(crash.code, allowed)}")
                wanted = 0
            else:
                raise _refusal(crash.code, allowed) from crash


def _with_recognition(limits: DocumentLimits, recognition: RecognitionLimits, pages: int) -> DocumentLimits:
    seconds = limits.seconds + _LOADING_SECONDS + pages * recognition.page_seconds
    return replace(limits, seconds=seconds, memory_bytes=recognition.memory_bytes)


async def _read_once(
    settings: dict[str, Any], data: bytes, limits: DocumentLimits, on_page: Callable[[int, int], None]
) -> Document:
    """Run one child.

    Raises:
        Refusal, MissingExtra: as the child says.
        _Wanted: the document needs text recognition; this child has none, but another one can have it.
        _Crashed: it ended without saying anything.
    """
    process = await _start(settings, limits)
    child = _Output(settings["recognition"], on_page)
    try:
        async with _ended_if_it_hangs(process):
            await _send(process, data)
            if (document := await child.receive(process)) is not None:
                return document
            code = await process.wait()
    except TimeoutError as error:
        raise Refusal(Reason.TOO_LARGE, "cannot be read: its parser makes no progress; simplify or split it") from error
    finally:
        await _kill(process)
    raise _Crashed(code, child.page)


@asynccontextmanager
async def _ended_if_it_hangs(process: Process) -> AsyncIterator[None]:
    """Raise TimeoutError in the body once the child has used no processor time for too long."""
    async with asyncio.timeout(None) as deadline:
        watching = asyncio.create_task(_postpone(deadline, process.pid))
        try:
            yield
        finally:
            watching.cancel()


async def _postpone(deadline: asyncio.Timeout, pid: int) -> None:
    """Move the deadline as long as the child uses processor time."""
    used = -1.0
    with suppress(psutil.Error):  # it has ended
        child = psutil.Process(pid)
        while True:
            times = child.cpu_times()
            if times.user + times.system > used:
                used = times.user + times.system
                deadline.reschedule(asyncio.get_running_loop().time() + _HANG_SECONDS)
            await asyncio.sleep(_HANG_SECONDS / 10)


async def _start(settings: dict[str, Any], limits: DocumentLimits) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(_CHILD), json.dumps(settings),
        stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | dict.fromkeys(_ONE_THREAD, "1"),
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


class _Output:
    """What a child says.

    Attributes:
        page: the page at which it is, 1-based; 0 while it loads the models of text recognition.
    """

    def __init__(self, recognition: dict[str, Any], on_page: Callable[[int, int], None]) -> None:
        self._recognition = recognition
        self._on_page = on_page
        self.page = 0 if recognition["here"] else 1

    async def receive(self, process: Process) -> Document | None:
        """The document; None if the child ends without a final line."""
        sections: list[Section] = []
        warnings: list[str] = []
        unread: list[int] = []
        recognised: list[int] = []
        async for words in _lines(process):
            match words:
                case ["section", text, page, heading]:
                    sections.append(Section(text, page, heading))
                case ["unread", list(warnings), list(unread)]:
                    pass
                case ["recognised", list(recognised)]:
                    pass
                case ["end", kind, pages]:
                    return Document(kind, sections, pages, tuple(warnings), tuple(unread), tuple(recognised))
                case _:
                    self._follow(words)
        return None

    def _follow(self, words: list[Any]) -> None:
        match words:
            case ["page", int(number), int(of)]:
                self.page = number + 1
                if not self._recognition["here"]:
                    self._on_page(number, of)
            case ["recognising", int(number), int(done), int(of)]:
                self.page = number
                self._on_page(done, of)
            case ["wanted", list(pages)] if not (self._recognition["here"] or self._recognition["problem"]):
                raise _Wanted(len(pages))
            case ["refused", reason, problem]:
                raise Refusal(Reason(reason), problem)
            case ["missing", package]:
                extra = "ocr" if self._recognition["here"] else "documents"
                raise MissingExtra(f"reading documents needs {package!r}; pip install 'sessionfleet[{extra}]'")


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


def _refusal(code: int, limits: DocumentLimits) -> Refusal:
    if -code in _KILLED:
        return Refusal(Reason.TOO_LARGE, f"{_how(code, limits)}; simplify or split it")
    how = _how(code, limits)
    return Refusal(Reason.CORRUPT, f"{how}; open it in a program for such files and save it again")


def _how(code: int, limits: DocumentLimits) -> str:
    """How a child ended, after 'it'."""
    if -code in _KILLED:
        return f"takes more than {limits.seconds:.3g} s of CPU time or {limits.memory_bytes // _MIB:,} MiB to read"
    return f"crashed its parser ({signal.Signals(-code).name if code < 0 else f'code {code}'})"
