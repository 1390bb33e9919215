"""`sessionfleet turns`: inspect and cancel turns, and answer the calls that they wait for."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from broker_config.settings import load_settings
from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.cli.fleet import AsJson
from sessions.cli.output import ago, clock, print_fields, print_json, print_table, say
from sessions.cli.store import running_store, with_store
from sessions.client.deliveries import latest_delivery
from sessions.client.per_process import get_client
from sessions.errors import BadRequest, TurnNotFound
from sessions.protocol.turn import TurnRequest
from sessions.store.calls import CallStore, PendingCall
from sessions.store.keys import SessionKeys, split_turn_id
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.transitions.turns import Which
from sessions.store.turns import TurnStore

app = typer.Typer(help="Inspect and cancel turns, and answer the calls that they wait for.", no_args_is_help=True)


@app.command()
def show(turn_id: str, as_json: AsJson = False) -> None:
    """Show a turn: status, attempts, worker, times, answer or error; for an open or dead turn also its journal."""
    session_id, part = split_turn_id(turn_id)

    async def read(store: TurnStore, keys: SessionKeys) -> dict[str, Any]:
        shown = {**await _shown(store, keys, part), "webhook": await _webhook(store, keys, part)}
        return {**shown, "journal": await store.journal(keys, part)}

    fields = _with_turns(session_id, read)
    fields["pending"] = [asdict(call) for call in _pending(session_id, part)]
    if as_json:
        print_json(fields)
        return
    journal, pending = fields.pop("journal"), fields.pop("pending")
    print_fields({name: None if value is None else _text(value) for name, value in fields.items()})
    if pending:
        columns = ("call_id", "tool", "kind", "args", "metadata", "waits_for")
        print_table(columns, [[_text(call[name])[:80] for name in columns] for call in pending])
    if journal:
        rows = [(step, _text(value)[:200]) for step, value in journal.items()]
        print_table(("journal", ""), rows)


OpenOnly = Annotated[
    bool, typer.Option("--open", help="Only turns that have not ended, in the order in which they run.")
]


@app.command("list")
def list_turns(session_id: str, open_only: OpenOnly = False, as_json: AsJson = False) -> None:
    """List the turns of a session whose records still exist, oldest first."""

    async def read(store: TurnStore, keys: SessionKeys) -> list[dict[str, Any]]:
        found = []
        async for part in _listed(store, keys, "open" if open_only else "oldest"):
            try:
                found.append(await _shown(store, keys, part))
            except TurnNotFound:  # it has just expired
                continue
        return found

    found = _with_turns(session_id, read)
    scheduled = any(turn["not_before"] for turn in found)
    if as_json:
        print_json(found)
    elif not found and open_only:
        say(f"session {session_id!r} has no open turns")
    elif not found:
        say(f"session {session_id!r} has no turns (their records expire after SESSIONFLEET_RESULT_TTL)")
    else:
        columns = ("turn", "status", "attempt", "worker", "accepted", *["not_before"][:scheduled], "message")
        rows = [
            [_text({**turn, "accepted": _since(turn["accepted"])}[name])[:80] for name in columns] for turn in found
        ]
        print_table(columns, rows, spare=("worker", "attempt"), cut="message")


@app.command()
def cancel(turn_id: str) -> None:
    """Cancel a turn. A running one is stopped on its worker."""
    status = _turn(turn_id).cancel()
    say(f"turn {turn_id!r}: {status}" + ("" if status.final else ", its worker was told to stop"))


@app.command()
def delete(turn_id: str) -> None:
    """Delete a turn that has ended: its messages, its record and its events."""
    receipt = Session(split_turn_id(turn_id)[0]).delete_turn(turn_id)
    say(f"turn {turn_id!r}: {receipt['messages']} messages and {receipt['keys']} keys deleted")


Always = Annotated[bool, typer.Option("--always", help="Also all further calls of this tool in the session.")]
Args = Annotated[str | None, typer.Option(help="Other arguments for the tool, as a JSON object.")]


@app.command()
def approve(turn_id: str, call_id: str, args: Args = None, always: Always = False) -> None:
    """Approve a call that a turn waits for (`turns show ID` lists them)."""
    _turn(turn_id).approve(call_id, args=None if args is None else _json("--args", args), always=always)
    say(f"call {call_id!r} of turn {turn_id!r}: approved")


@app.command()
def deny(turn_id: str, call_id: str, reason: str = "") -> None:
    """Deny a call that a turn waits for; the model is told, with the reason."""
    _turn(turn_id).deny(call_id, reason)
    say(f"call {call_id!r} of turn {turn_id!r}: denied")


@app.command()
def provide(turn_id: str, call_id: str, result: str) -> None:
    """Provide the result of a call that a turn waits for, as JSON (a text needs its quotes)."""
    _turn(turn_id).provide(call_id, _json("the result", result))
    say(f"call {call_id!r} of turn {turn_id!r}: provided")


def _turn(turn_id: str) -> Turn:
    session_id, part = split_turn_id(turn_id)
    # With the address filled in: answering a turn must not start a fleet, nor restart one with our settings.
    settings = running_store(load_settings())
    return Turn(get_client(settings), SessionKeys.from_id(settings.tenant, session_id, settings.partitions), part)


def _json(what: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRequest(f"{what} {text!r} is not JSON: {error}") from error


def _pending(session_id: str, part: str) -> list[PendingCall]:
    settings = load_settings()
    keys = SessionKeys.from_id(settings.tenant, session_id, settings.partitions)
    found: list[PendingCall] = with_store(
        settings, lambda client: CallStore(ScriptRunner(client), KeyRing.of(settings)).pending(keys, part)
    )
    return found


def _with_turns(session_id: str, read: Any) -> Any:
    settings = load_settings()
    keys = SessionKeys.from_id(settings.tenant, session_id, settings.partitions)
    return with_store(settings, lambda client: read(TurnStore(ScriptRunner(client), client, settings), keys))


async def _listed(store: TurnStore, keys: SessionKeys, which: Which) -> AsyncIterator[str]:
    page = await store.listed(keys, which)
    while page:
        for part in page:
            yield part
        page = await store.listed(keys, which, after=page[-1])


async def _shown(store: TurnStore, keys: SessionKeys, part: str) -> dict[str, Any]:
    record, request = await store.read(keys, part), await store.request(keys, part)
    return {
        "turn": keys.public_id(record.part),
        "status": str(record.status),
        **_asked(request),
        "answer": json.loads(record.result)["output"] if record.result else None,
        "error": record.error.model_dump() if record.error else None,
        "attempt": record.attempt,
        "crashes": record.crashes,
        "retries": record.retries,
        "worker": record.worker,
        "accepted": clock(record.accepted_ms),
        "not_before": clock(record.not_before_ms),
        "schedule": record.schedule_id,
        "started": clock(record.started_ms),
        "ended": clock(record.ended_ms),
        "deadline": clock(record.deadline_ms),
        "cancel_requested": record.cancel_requested,
        "usage": record.usage.model_dump() if record.usage else None,
    }


async def _webhook(store: TurnStore, keys: SessionKeys, part: str) -> dict[str, Any] | None:
    if await store.webhook(keys, part) is None:
        return None
    delivery = await latest_delivery(store, keys, part)
    if delivery is None:
        return {"delivery": None, "status": "not sent yet"}
    found, record = delivery
    shown = {"delivery": found, "status": str(record.status), "tries": record.retries + record.status.final}
    return shown if record.error is None else {**shown, "error": record.error.message}


def _asked(request: TurnRequest) -> dict[str, Any]:
    if request.operation is None:
        return {"agent": request.agent, "message": request.message}
    return {"agent": request.operation.kind, "message": json.dumps(request.operation.body, ensure_ascii=False)}


def _since(accepted: str) -> str:
    return f"{ago(time.time() - datetime.fromisoformat(accepted).timestamp())} ago"


def _text(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
