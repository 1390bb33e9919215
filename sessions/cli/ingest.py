"""The progress of documents being indexed, in a terminal: pages while one is read, then chunks and their rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from broker_config.printable import one_line
from sessions.api.operation import Operation
from sessions.api.operation import Progress as Step
from sessions.api.session import Session
from sessions.cli.interrupts import interrupt_later
from sessions.cli.output import FEW, counted, terminal
from sessions.client.arguments.documents import read_source
from sessions.client.arguments.folders import FolderFile, SameName, one_of_several, several
from sessions.client.arguments.options import DocumentOptions
from sessions.client.per_process import get_client
from sessions.errors import BackendError, SessionfleetError

_SHOWN_NAME = 40
_CANCEL_TIMEOUT = 30.0


class Bar:
    """The line of one document."""

    def __init__(self, bars: Progress, name: str) -> None:
        self._bars = bars
        self._id: TaskID = bars.add_task(one_line(name), total=None, told="waiting")
        self._stage = ""

    def show(self, step: Step) -> None:
        """Show the progress."""
        if step.stage != self._stage:  # each stage has its own rate
            self._stage = step.stage
            self._bars.reset(self._id)
        of = f"/{step.total}" if step.total else ""
        told = f"{step.done}{of} pages" if step.stage == "reading" else f"{step.done}{of} chunks{self._rate(step)}"
        self._bars.update(
            self._id, completed=step.done, total=step.total or None, told=told if step.done else step.stage
        )

    def end(self, receipt: Mapping[str, Any]) -> None:
        """Show the result."""
        pages = f"{counted(receipt['pages'], 'page')}, " if receipt["pages"] else ""
        same = f", same content as {one_line(receipt['same_as'])}" if receipt.get("same_as") else ""
        told = f"{receipt['status']}: {pages}{counted(receipt['chunks'], 'chunk')}{same}"
        self._bars.update(self._id, completed=1, total=1, told=told)

    def give_up(self, why: str) -> None:
        """Show that the document was not added."""
        self._bars.update(self._id, told=why)
        self._bars.stop_task(self._id)

    def _rate(self, step: Step) -> str:
        elapsed = next(task for task in self._bars.tasks if task.id == self._id).elapsed
        return f", {step.done / elapsed:.1f}/s" if elapsed else ""


@contextmanager
def bars(*, quiet: bool) -> Iterator[Progress | None]:
    """One line per document, if there is a terminal; on stderr, so that stdout can be piped."""
    console = terminal(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as shown:
        yield shown


def given_documents(arguments: Sequence[str]) -> list[object]:
    """The documents that a command line names: texts and URLs as they are, files and those of folders as paths."""
    return list(several([Path(given) if _is_path(given) else given for given in arguments]))


def named(given: object) -> str:
    """What a document is called before it has a receipt."""
    return given.name if isinstance(given, FolderFile | SameName) else str(given)


def take_in(target: Session, given: object, options: DocumentOptions, shown: Progress | None) -> dict[str, Any]:
    """Add one document and follow it to its end; returns its receipt, with an `error` if it is not there now.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. The operation is cancelled, and what was written is removed.
        BackendError: the fleet cannot add documents now, so that the next one would fail in the same way.
    """
    if isinstance(given, FolderFile) and given.skipped:
        return given.receipt
    name = _name(given)
    bar = None if shown is None else Bar(shown, name)
    try:
        receipt = _followed(_submitted(target, given, options), bar)
    except BackendError:
        if bar is not None:
            bar.give_up("failed")
        raise
    except (SessionfleetError, OSError) as error:
        if bar is not None:
            bar.give_up("failed")
        return {"source": name, "status": "failed", "error": _said(error, given)}
    if bar is not None:
        bar.end(receipt)
    return receipt


def take_in_all(
    target: Session, given: Sequence[object], options: DocumentOptions, shown: Progress | None
) -> Iterator[dict[str, Any]]:
    """Add documents one after the other; yields their receipts. Raises what `take_in` raises."""
    many = shown is not None and len(given) > FEW
    total = shown.add_task("all", total=len(given), told="") if shown is not None and many else None
    for number, one in enumerate(given, 1):
        yield take_in(target, one, options, shown)
        if shown is not None and total is not None:
            for task in shown.task_ids:  # a terminal has no room for a hundred lines, and would show the first ones
                if task != total:
                    shown.remove_task(task)
            shown.update(total, completed=number, told=f"{number}/{len(given)} files")


def _submitted(target: Session, given: object, options: DocumentOptions) -> Operation:
    client = get_client(target.settings)
    source, name = one_of_several(given)
    under_name = options.copy()
    under_name["name"] = name
    # Before anything is started: a typing error must not start a fleet.
    read_source(source, name, client.settings.document_limit_bytes)
    client.portal.call(client.open())  # this may take a while, and may be interrupted
    with interrupt_later() as interrupted:
        operation = target.submit_knowledge(source, **under_name)
    if interrupted:
        _cancel(operation)
        raise KeyboardInterrupt
    return operation


def _followed(operation: Operation, bar: Bar | None) -> dict[str, Any]:
    try:
        for step in operation.progress():
            if bar is not None:
                bar.show(step)
        receipt: dict[str, Any] = operation.result()
    except KeyboardInterrupt:
        if bar is not None:
            bar.give_up("cancelled")
        _cancel(operation)
        raise
    return receipt


def _cancel(operation: Operation) -> None:
    """Cancel the operation, and wait until its worker has removed what it wrote."""
    operation.cancel()
    try:
        operation.result(timeout=_CANCEL_TIMEOUT)
    except SessionfleetError:
        return


def _is_path(given: str) -> bool:
    try:
        return Path(given).exists()
    except (OSError, ValueError):  # too long for a path, or with characters that none has
        return False


def _name(given: object) -> str:
    name = named(given)
    if not isinstance(given, FolderFile) and len(name) < 200:
        name = Path(name).name
    return name if len(name) <= _SHOWN_NAME else f"{name[: _SHOWN_NAME - 1]}…"


def _said(error: Exception, given: object) -> str:
    """An error in the form that helps here: its advice to pass bytes instead is for programs."""
    if isinstance(error, FileNotFoundError):
        return f"there is no file {str(given)!r}"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error)
