"""A bar that shows how many of a session's turns were exported or imported, if there is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from broker_config.printable import one_line
from sessions.cli.output import terminal
from sessions.client.backend import Progress as Report


@contextmanager
def turn_bar(what: str) -> Iterator[Report | None]:
    """A function that moves the bar; None without a terminal. On stderr, so that stdout can be piped."""
    console = terminal(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("turns"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as shown:
        task = shown.add_task(one_line(what), total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total or None)
