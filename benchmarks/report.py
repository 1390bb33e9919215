"""The table of a run: what was measured, beside what, and whether the target was met."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One line. `met` is None without a target."""

    what: str
    ours: float
    usual: float | None = None
    celery: float | None = None
    bare: float | None = None
    ratio: str = ""
    target: str = ""
    met: bool | None = None


@dataclass
class Report:
    """All rows of a run, and where it ran."""

    server: str
    quick: bool
    rows: list[Row] = field(default_factory=list)

    def add(self, rows: list[Row]) -> None:
        """Add a scenario's rows."""
        self.rows += rows

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"machine": self._machine(), "quick": self.quick, "rows": [asdict(row) for row in self.rows]}

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(title=f"Sessionfleet, one run on {self._machine()}", caption=self._caption())
        table.add_column("")
        for name in ("Sessionfleet", "usual recipe", "bare Celery", "bare agent.run", "ratio"):
            table.add_column(name, justify="right")
        table.add_column("target")
        for row in self.rows:
            cells = [_shown(value) for value in (row.ours, row.usual, row.celery, row.bare)]
            mark = {None: "", True: "[green]met[/]  ", False: "[red]missed[/]  "}[row.met]
            table.add_row(row.what, *cells, row.ratio, mark + row.target)
        console.print(table)

    def _machine(self) -> str:
        return f"{psutil.cpu_count()} cores, Python {platform.python_version()}, {self.server}"

    def _caption(self) -> str:
        return "--quick: too short to judge by" if self.quick else "ratios are of this run; see docs/performance.md"


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
