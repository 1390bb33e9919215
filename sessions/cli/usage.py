"""`sessionfleet usage`: requests, tokens and cost of a tenant, by day, user and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final

import typer

from broker_config.settings import load_settings
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.output import cell, print_json, print_table, say
from sessions.cli.store import running_store
from sessions.client.arguments.usage import dimensions_in
from sessions.errors import BadRequest
from sessions.protocol.usage import UsageRow

_WEEK: Final = 7
_COUNTS: Final = ("requests", "input_tokens", "cache_read_tokens", "output_tokens", "tool_calls")


def usage(
    since: Annotated[
        str | None, typer.Option(help="The first day, as YYYY-MM-DD (UTC); by default a week ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The last day, included; by default today.")] = None,
    by: Annotated[str, typer.Option(help="What to keep apart: any of day, user, model; or total.")] = "day,model",
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant (default: SESSIONFLEET_TENANT).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what was used: requests, tokens and cost, by day, user and model."""
    kept_apart = dimensions_in(by)
    last = datetime.now(UTC).date() if until is None else _day("--until", until)
    rows = Session.usage(
        user,
        since=last - timedelta(days=_WEEK - 1) if since is None else _day("--since", since),
        until=last,
        by=kept_apart,
        tenant=tenant,
        settings=running_store(load_settings()),  # looking at a fleet must not start one
    )
    if as_json:
        print_json([asdict(row) for row in rows])
    elif not rows:
        say("nothing was used")
    else:
        columns = (*kept_apart, *(name.removesuffix("_tokens") for name in _COUNTS), "cost")
        print_table(
            columns, [(*_whose(row, kept_apart), *_amounts(row)) for row in rows], spare=("tool_calls", "cache_read")
        )


def _whose(row: UsageRow, shown: Sequence[str]) -> list[object]:
    values = {"day": row.day, "user": row.user_id, "model": row.model}
    return [cell(values[name]) for name in shown]


def _amounts(row: UsageRow) -> list[object]:
    return [*(getattr(row, name) for name in _COUNTS), _cost(row)]


def _cost(row: UsageRow) -> str:
    """The cost, and how many requests it lacks."""
    if row.cost is None:
        return "unknown"
    lacks = f" + {row.unpriced_requests} unpriced" if row.unpriced_requests else ""
    return f"${row.cost:.4f}{lacks}"


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{option} {text!r}: use a day, such as 2026-11-30") from None
