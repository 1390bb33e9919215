"""`python -m benchmarks [--quick] [--json | --markdown] [--only NAME ...]`"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["SESSIONFLEET_AUTOSTART"] = "0"

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.report import Report
from benchmarks.rig import Rig
from benchmarks.scale import QUICK, Scale
from benchmarks.scenarios import SCENARIOS


def main() -> int:
    """Run the scenarios, show the table. Exits with 1 if a target was missed (never with --quick)."""
    options = _options()
    scale = QUICK if options.quick else Scale()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="sessionfleet-bench-") as folder:
        report = _run(Path(folder), scale, options, console)
    if options.json:
        sys.stdout.write(json.dumps(report.as_dict(), indent=2) + "\n")
    elif options.markdown:
        sys.stdout.writelines(f"{line}\n" for line in report.markdown())
    else:
        report.show(Console(width=None if sys.stdout.isatty() else 150))
    return int(not options.quick and any(row.met is False for row in report.rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one minute instead of several; too short to judge by")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    form.add_argument("--markdown", action="store_true", help="the tables in the form of docs/performance.md")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="only these scenarios")
    return parser.parse_args()


def _run(folder: Path, scale: Scale, options: argparse.Namespace, console: Console) -> Report:
    rig = Rig(folder)
    report = Report(rig.server_name, options.quick)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # The engine is imported here for the bare run only: a web backend would not load it, nor would its garbage
    # collector scan it.
    gc.collect()
    gc.freeze()
    try:
        with Progress(*columns, console=console, refresh_per_second=2, transient=True) as progress:
            for name in options.only:
                bar = progress.add_task(name, total=None)
                began = time.monotonic()
                rows = SCENARIOS[name](rig, scale, lambda text, bar=bar: progress.update(bar, description=text))
                report.add(rows, "retrieval" if name == "retrieval" else "turns")
                progress.update(bar, description=f"{name}: done", total=1, completed=1)
                progress.console.print(f"{name}: {time.monotonic() - began:.0f} s")
    finally:
        rig.close()
    return report


if __name__ == "__main__":
    raise SystemExit(main())
