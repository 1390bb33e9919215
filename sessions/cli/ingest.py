"""The progress of documents being indexed, in a terminal: pages while one is read, then chunks and their rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from broker_config.printable import one_line
from sessions.api.operation import Operation
from sessions.api.operation import Progress as Step
from sessions.api.session import Session
from sessions.cli.interrupts import interrupt_later
from sessions.cli.output import counted, terminal
from sessions.client.arguments.documents import read_source
from sessions.client.per_process import get_client
from sessions.errors import SessionfleetError

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
        told = f"{receipt['status']}: {pages}{counted(receipt['chunks'], 'chunk')}"
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


def take_in(target: Session, given: str, metadata: Mapping[str, Any], shown: Progress | None) -> dict[str, Any]:
    """Add one document and follow it to its end; returns its receipt, with an `error` if it is not there now.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. The operation is cancelled, and what was written is removed.
    """
    name = _name(given)
    bar = None if shown is None else Bar(shown, name)
    try:
        receipt = _followed(_submitted(target, given, metadata), bar)
    except (SessionfleetError, OSError) as error:
        if bar is not None:
            bar.give_up("failed")
        return {"source": name, "status": "failed", "error": _said(error, given)}
    if bar is not None:
        bar.end(receipt)
    return receipt


def _submitted(target: Session, given: str, metadata: Mapping[str, Any]) -> Operation:
    client = get_client(target.settings)
    # Before anything is started: a typing error must not start a fleet.
    read_source(given, None, client.settings.document_limit_bytes)
    client.portal.call(client.open())  # this may take a while, and may be interrupted
    with interrupt_later() as interrupted:
        operation = target.submit_knowledge(given, metadata=metadata)
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


def _name(given: str) -> str:
    name = Path(given).name if len(given) < 200 else given
    return name if len(name) <= _SHOWN_NAME else f"{name[: _SHOWN_NAME - 1]}…"


def _said(error: Exception, given: str) -> str:
    """An error in the form that helps here: its advice to pass bytes instead is for programs."""
    return f"there is no file {given!r}" if isinstance(error, FileNotFoundError) else str(error)
