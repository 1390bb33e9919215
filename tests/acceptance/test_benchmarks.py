"""The benchmark runs, and says what the README says it says."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.report import Report, Row
from benchmarks.rig import Process
from benchmarks.scenarios import SCENARIOS
from tests.support import preloaded


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("scenarios", "targets"),
    [
        (["main", "slow", "streams", "gateway", "history", "recovery", "claims", "lists", "fairness"], 16),
        (["retrieval"], 1),
    ],
    ids=["turns", "retrieval"],
)
def test_the_short_benchmark_measures_everything(
    scenarios: list[str], targets: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m benchmarks --quick` ends by itself and has a figure for each target."""
    monkeypatch.setattr(Process, "start", staticmethod(_start))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--json", "--only", *scenarios])
    try:
        assert main() == 0
    finally:
        gc.unfreeze()
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    judged = {row["what"] for row in rows if row["target"]}
    assert len(judged) == targets, judged
    assert all(row["ours"] > 0 for row in rows if "CPU" not in row["what"]), rows


def test_no_scenario_is_left_out_above() -> None:
    """`make bench` runs every scenario that exists."""
    assert list(SCENARIOS) == [
        "main",
        "slow",
        "streams",
        "gateway",
        "history",
        "recovery",
        "claims",
        "lists",
        "fairness",
        "retrieval",
    ]


def test_the_tables_come_as_the_document_has_them() -> None:
    """Columns that no row fills are left out; a target that was missed says so."""
    report = Report("a server", quick=True)
    report.add([Row("a", 1234.5, target="at most 7", met=False), Row("b", 0.5, local=2, means="why")], "retrieval")
    _, _, *table, _ = report.markdown()
    assert table == [
        "|  | Sessionfleet | qdrant-client local | target | what it means |",
        "|---|---:|---:|---|---|",
        "| a | 1,234 |  | **missed**: at most 7 |  |",
        "| b | 0.5 | 2 |  | why |",
    ]


def _start(command: list[str], **options: Any) -> preloaded.Program | subprocess.Popen[bytes]:
    """Fork workers and gateways, of which the benchmark starts two dozen."""
    if command[0] == sys.executable:
        return preloaded.start(command, **options)
    return subprocess.Popen(command, **options)
