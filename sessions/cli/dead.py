"""`sessionfleet dead`: turns that were set aside."""

from __future__ import annotations

import time
from dataclasses import asdict

import typer

from broker_config.settings import load_settings
from sessions.cli.fleet import AsJson
from sessions.cli.output import ago, print_json, print_table
from sessions.cli.store import with_store
from sessions.store.dead_letters import dead_letters

app = typer.Typer(help="Turns that lost their worker too often.", no_args_is_help=True)


@app.command("list")
def list_dead(as_json: AsJson = False) -> None:
    """List the dead letters; `sessionfleet turns show ID` shows one with its journal."""
    settings = load_settings()
    found = with_store(settings, lambda client: dead_letters(client, settings.partitions))
    if as_json:
        print_json([asdict(letter) for letter in found])
    elif not found:
        print("no dead letters")
    else:
        now = time.time()
        rows = [(letter.turn_id, letter.tenant, f"{ago(now - letter.since)} ago") for letter in found]
        print_table(("turn", "tenant", "since"), rows)


@app.callback()
def _group() -> None:
    """Typer would make a group of one command that command itself."""
