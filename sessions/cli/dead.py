"""`sessionfleet dead`: turns whose worker crashed too many times, and undeliverable webhooks."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from broker_config.settings import load_settings
from sessions.cli.fleet import AsJson
from sessions.cli.output import ago, print_json, print_table, say
from sessions.cli.store import running_store, with_store
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.protocol.turn import TurnStatus
from sessions.store.dead_letters import dead_letters
from sessions.store.keys import SessionKeys, split_turn_id, valid_tenant

app = typer.Typer(
    help="Manage turns whose worker crashed too many times and undeliverable webhooks.", no_args_is_help=True
)


@app.command("list")
def list_dead(as_json: AsJson = False) -> None:
    """List the dead letters; `sessionfleet turns show ID` shows one with its journal."""
    settings = load_settings()
    found = with_store(settings, lambda client: dead_letters(client, settings.partitions))
    if as_json:
        print_json([asdict(letter) for letter in found])
    elif not found:
        say("no dead letters")
    else:
        now = time.time()
        rows = [(letter.turn_id, letter.tenant, f"{ago(now - letter.since)} ago") for letter in found]
        print_table(("turn", "tenant", "since"), rows)


@app.command()
def retry(
    turn_id: str, tenant: Annotated[str | None, typer.Option(help="The tenant (default: SESSIONFLEET_TENANT).")] = None
) -> None:
    """Retry a webhook, for as long as a new one. TURN_ID is its delivery, or the turn that it reports."""
    session_id, part = split_turn_id(turn_id)
    # With the address filled in: this command must not start a fleet.
    client = get_client(running_store(load_settings()))
    whose = client.settings.tenant if tenant is None else valid_tenant(tenant)
    lane = SessionKeys.from_id(whose, session_id, client.settings.partitions)
    delivery, status = client.portal.call(_deliver_again(client, lane, part))
    if status is TurnStatus.SUCCEEDED:
        say(f"webhook {delivery!r} has already been delivered")
    elif status.final:
        say(f"retrying webhook {delivery!r}; `sessionfleet turns show {delivery}` shows its status")
    else:
        say(f"webhook {delivery!r} is still being delivered ({status})")


async def _deliver_again(client: FleetClient, lane: SessionKeys, part: str) -> tuple[str, TurnStatus]:
    deliveries = await client.deliveries()
    return await deliveries.retry(lane, part)
