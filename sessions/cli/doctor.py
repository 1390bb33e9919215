"""`sessionfleet doctor`: the state of a deployment, with what to do about each problem."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from broker_config.settings import load_settings
from sessions.cli.checks import examine
from sessions.cli.fleet import AsJson
from sessions.cli.output import print_json, print_styled
from sessions.cli.verdicts import Check, Verdict

_MARKS = {Verdict.OK: ("✓", "green"), Verdict.WARNING: ("!", "yellow"), Verdict.BROKEN: ("✗", "red")}


def doctor(as_json: AsJson = False) -> None:
    """Check server, broker, workers, model, retrieval and settings. Exits with 1 if something is broken."""
    checks = asyncio.run(examine(load_settings()))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        _print(checks)
    if any(check.verdict is Verdict.BROKEN for check in checks):
        raise typer.Exit(1)


def _print(checks: list[Check]) -> None:
    for check in checks:
        mark, style = _MARKS[check.verdict]
        print_styled((mark, style), f" {check.name:<12} {check.says}")
        if check.advice:
            print_styled((f"{'':15}→ {check.advice}", "bold"))
