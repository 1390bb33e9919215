"""The benchmark runs, and says what the README says it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_short_benchmark_measures_everything() -> None:
    """`python -m benchmarks --quick --json` ends by itself and has a figure for each target."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json"],
        cwd=root, capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    targets = {row["what"] for row in report["rows"] if row["target"]}
    assert len(targets) == 10, targets
    assert all(row["ours"] > 0 for row in report["rows"] if "CPU" not in row["what"]), report["rows"]
