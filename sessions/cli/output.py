"""The output of commands: lines and tables for people, JSON for programs, errors in one line.

Every command prints through this module and nowhere else, because the texts of messages, answers, memories and
documents come from strangers: control sequences are shown as escapes, and nothing is interpreted as rich's markup.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker_config.printable import one_line, printable, printable_json

FEW: Final = 10
"""Up to so many things are shown or named one by one to the end; of more, the first, or their number."""
_UNLIMITED = 100_000
# The least width of a column, including the space after it, in a terminal that is too narrow for the ids.
_LEAST = 9
# A column with longer texts than this may be folded.
_FOLDED = 25


def terminal(*, stderr: bool = False) -> Console:
    """The terminal as it is now; without one there is no colour, and lines are not wrapped."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(text: str = "", *, stderr: bool = False) -> None:
    """One or more lines, without style."""
    print(printable(text), file=sys.stderr if stderr else sys.stdout, flush=True)


def print_styled(*parts: str | tuple[str, str]) -> None:
    """A line made of texts; one with a rich style is passed as (text, style)."""
    terminal().print(Text.assemble(*(safe(part) if isinstance(part, str) else safe(*part) for part in parts)))


def print_json(value: Any) -> None:
    """One JSON document on stdout; a program that parses it gets every text exactly as it is stored."""
    print(printable_json(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, spare: Sequence[str] = (), cut: str | None = None
) -> None:
    """Rows under headings. Output to a pipe or file is not shortened.

    Args:
        columns: the first has ids, which people copy: it is never broken.
        rows: a cell for each column.
        spare: if the terminal is too narrow, these are left out, in this order; then the others are folded.
        cut: a column that is shortened to one line instead.
    """
    # Before the widths are measured: escapes are wider than the characters they stand for.
    rows = [[printable(str(cell)) for cell in row] for row in rows]
    console, names = terminal(), list(columns)
    room = console.width if console.is_terminal else _UNLIMITED
    for name in spare:
        if _needed(columns, rows, names) <= room:
            break
        names.remove(name)
    if cut is not None:
        rest = _needed(columns, rows, [name for name in names if name != cut])
        rows = _shortened(rows, columns.index(cut), max(_LEAST, room - rest))
    ids = max(len(str(row[0])) for row in rows) if rows else 0
    console.width = max(room, ids + _LEAST * (len(names) - 1))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name == columns[0])
    for row in rows:
        table.add_row(*(safe(str(cell)) for name, cell in zip(columns, row, strict=True) if name in names))
    console.print(table)


def _shortened(rows: Sequence[Sequence[object]], at: int, room: int) -> list[list[object]]:
    """The rows with the text in this column on one line of at most `room` characters."""
    texts = [" ".join(str(row[at]).split()) for row in rows]
    texts = [text if len(text) <= room else text[: room - 1] + "…" for text in texts]
    return [[*row[:at], text, *row[at + 1 :]] for row, text in zip(rows, texts, strict=True)]


def _needed(columns: Sequence[str], rows: Sequence[Sequence[object]], names: Sequence[str]) -> int:
    """The width at which the table is easy to read: a long column may be folded, a short one may not."""
    cells = [[str(cell) for cell in column] for column in zip(columns, *rows, strict=True)]
    longest = {column[0]: max(map(len, column)) for column in cells}
    return sum(longest[n] if n == columns[0] else min(longest[n], _FOLDED) for n in names) + 2 * len(names)


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, one per line. None is left out; output to a pipe or file is not shortened."""
    console = terminal()
    if not console.is_terminal:
        width = max(map(len, fields))
        for name, value in fields.items():
            if value is not None:
                print(f"{name:<{width}}  {one_line(str(value))}")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value is not None:
            table.add_row(name, safe(str(value)))
    console.print(table)


def print_error(message: str) -> None:
    """A clear line for people, on stderr."""
    say(f"error: {message}", stderr=True)


def print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback of an unexpected error, which may quote a text from elsewhere. For `sys.excepthook`."""
    say("".join(traceback.format_exception(kind, error, trace)).rstrip(), stderr=True)


def confirm(question: str) -> None:
    """Ask a person; any answer but yes ends the command."""
    typer.confirm(printable(question), abort=True)


def safe(text: str, style: str = "") -> Text:
    """A text that is safe for rich to print."""
    return Text(printable(text), style=style)


def cell(value: object) -> object:
    """A value in a table; '-' for None and nothing."""
    return "-" if value is None or value == "" else value


def enumerated(names: Sequence[str], most: int = FEW) -> str:
    """`a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def counted(number: int, what: str) -> str:
    """`1 chunk`, `2 chunks`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def clock(milliseconds: int | None) -> str | None:
    """A time of the store, for people."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(" ", "milliseconds")


def ago(seconds: float) -> str:
    """How long ago, roughly."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
