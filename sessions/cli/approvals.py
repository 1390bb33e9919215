"""`sessionfleet approvals`: the calls that turns of all sessions wait for."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from broker_config.settings import load_settings
from sessions.api.approvals import PendingApproval
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.output import ago, cell, print_json, print_table, say
from sessions.cli.store import running_store
from sessions.client.arguments.approvals import AskedKind

_COLUMNS = ("turn", "call_id", "tool", "kind", "user", "since", "args")


def approvals(
    user: Annotated[str | None, typer.Option(help="Only in the sessions of this user.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Only calls of this kind: approval, result or in_doubt; by default all but the results that the "
            "programs which sent the messages provide."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="The largest number of sessions.")] = 100,
    tenant: Annotated[str | None, typer.Option(help="The tenant (default: SESSIONFLEET_TENANT).")] = None,
    as_json: AsJson = False,
) -> None:
    """List the tool calls that turns wait for, in all sessions. `turns approve` and `turns deny` answer them."""
    asked: AskedKind | None = kind  # type: ignore[assignment] # checked by approvals()
    page = Session.approvals(
        user,
        limit=limit,
        kind=asked,
        tenant=tenant,
        settings=running_store(load_settings()),  # looking at a fleet must not start one
    )
    if as_json:
        print_json([_fields(found) for found in page])
    elif not page.approvals:
        say("no turn waits for an answer")
    else:
        print_table(_COLUMNS, [_row(found) for found in page], spare=("kind", "user"), cut="args")
        say()
        say("answer one: sessionfleet turns approve TURN CALL_ID, or sessionfleet turns deny TURN CALL_ID --reason ...")
        if page.cursor is not None:
            say(f"there are more: --limit {10 * limit}")


def _row(found: PendingApproval) -> list[object]:
    call, args = found.call, json.dumps(found.call.args, ensure_ascii=False, default=str)
    since = ago(time.time() - found.since.timestamp())
    return [found.turn.id, call.call_id, call.tool, call.kind, cell(found.user_id), since, args]


def _fields(found: PendingApproval) -> dict[str, Any]:
    return {
        "turn_id": found.turn.id,
        "session_id": found.session_id,
        "user_id": found.user_id,
        "agent": found.agent,
        "message": found.message,
        "since": found.since,
        "expires_at": found.expires_at,
        **asdict(found.call),
    }
