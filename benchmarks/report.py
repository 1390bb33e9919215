"""The tables of a run: what was measured, what it is compared with, and whether the target was met."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

_FIGURES = {
    "ours": "Sessionfleet",
    "usual": "usual recipe",
    "celery": "bare Celery",
    "bare": "bare agent.run",
    "local": "qdrant-client local",
}
_WORDS = {"ratio": "ratio", "target": "target", "means": "what it means"}


@dataclass(frozen=True)
class Row:
    """One line. `met` is None without a target; `means` explains the figure, if its name does not."""

    what: str
    ours: float
    usual: float | None = None
    celery: float | None = None
    bare: float | None = None
    ratio: str = ""
    target: str = ""
    met: bool | None = None
    local: float | None = None
    means: str = ""


@dataclass
class Report:
    """All rows of a run, in tables, and where it ran."""

    server: str
    quick: bool
    tables: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """Those of all tables."""
        return [row for rows in self.tables.values() for row in rows]

    def add(self, rows: list[Row], table: str = "turns") -> None:
        """Add a scenario's rows to a table."""
        self.tables.setdefault(table, []).extend(rows)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"machine": self._machine(), "quick": self.quick, "rows": [asdict(row) for row in self.rows]}

    def markdown(self) -> Iterator[str]:
        """The lines of the tables as Markdown, for docs/performance.md."""
        for name, rows in self.tables.items():
            columns = _columns(rows)
            figures = [each for each in columns if each in _FIGURES]
            yield f"{name.capitalize()}, one run on {self._machine()}; {self._caption()}:"
            yield ""
            yield _line(["", *(_heading(column) for column in columns)])
            yield _line(["---", *("---:" if column in figures else "---" for column in columns)]).replace(" ", "")
            for row in rows:
                yield _line([row.what, *(_cell(row, column, "", "**missed**: ") for column in columns)])
            yield ""

    def show(self, console: Console) -> None:
        """Print the tables."""
        for name, rows in self.tables.items():
            columns = _columns(rows)
            table = Table(title=f"Sessionfleet, {name}: one run on {self._machine()}", caption=self._caption())
            table.add_column("")
            for column in columns:
                table.add_column(_heading(column), justify="left" if column in ("target", "means") else "right")
            for row in rows:
                cells = [_cell(row, column, "[green]met[/]  ", "[red]missed[/]  ") for column in columns]
                table.add_row(row.what, *cells)
            console.print(table)

    def _machine(self) -> str:
        return f"{psutil.cpu_count()} cores, Python {platform.python_version()}, {self.server}"

    def _caption(self) -> str:
        load = " ".join(f"{each:.1f}" for each in psutil.getloadavg())
        hint = "--quick: too short to judge by" if self.quick else "ratios are of this run; see docs/performance.md"
        return f"{hint}; load average at its end {load}"


def _columns(rows: Sequence[Row]) -> list[str]:
    """Ours, and the columns that some row has."""
    known = [*_FIGURES, *_WORDS]
    return [name for name in known if name == "ours" or any(getattr(row, name) not in (None, "") for row in rows)]


def _heading(column: str) -> str:
    return {**_FIGURES, **_WORDS}[column]


def _cell(row: Row, column: str, met: str, missed: str) -> str:
    value = getattr(row, column)
    if column in _FIGURES:
        return _shown(value)
    return {None: "", True: met, False: missed}[row.met] + value if column == "target" else value


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
