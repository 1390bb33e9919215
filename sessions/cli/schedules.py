"""`sessionfleet schedules`: messages that a session is sent at the times of a cron expression."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from broker_config.settings import load_settings
from sessions.api.schedules import Schedule
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.output import confirm, print_error, print_json, print_table, say
from sessions.cli.store import running_store
from sessions.client.schedule_info import ScheduleInfo

app = typer.Typer(help="Manage the schedules of sessions: cron expressions and messages.", no_args_is_help=True)

AsUser = Annotated[str | None, typer.Option("--user", help="Act as this user; without, as the session's owner.")]


@app.command("list")
def list_schedules(session_id: str, user: AsUser = None, as_json: AsJson = False) -> None:
    """List the schedules of a session, with their next times and what became of their last ticks."""
    found = [schedule.info for schedule in _session(session_id, user).schedules()]
    if as_json:
        print_json([_fields(info) for info in found])
    elif not found:
        say(f"session {session_id!r} has no schedules; `sessionfleet schedules add` adds one")
    else:
        columns = ("schedule", "cron", "timezone", "next", "last", "runs", "missed", "skipped", "message")
        print_table(columns, [_row(info) for info in found], spare=("skipped", "missed", "timezone"), cut="message")


@app.command()
def add(
    session_id: str,
    cron: Annotated[str, typer.Argument(help='Five fields, such as "0 9 * * 1-5".')],
    message: str,
    timezone: Annotated[str, typer.Option(help="In which the expression is meant.")] = "UTC",
    agent: Annotated[str | None, typer.Option(help="Name of an agent; by default the session's.")] = None,
    schedule_id: Annotated[str | None, typer.Option("--id", help="Generated if not given.")] = None,
    missed: Annotated[str, typer.Option(help="skip or run_once, for ticks at which no worker ran.")] = "skip",
    overlap: Annotated[str, typer.Option(help="skip or queue, while the previous turn is open.")] = "skip",
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Add a schedule; prints its id and its next time."""
    made = _session(session_id, user).schedule(
        cron, message, agent=agent, timezone=timezone, schedule_id=schedule_id, missed=missed, overlap=overlap
    )
    _show(made, as_json)


@app.command()
def show(
    session_id: str,
    schedule_id: str,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How many of its next times to list.")] = 5,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Show a schedule and its next times."""
    schedule = _schedule(session_id, schedule_id, user)
    times = schedule.next_runs(runs)
    if as_json:
        print_json({**_fields(schedule.info), "next_runs": [at.isoformat() for at in times]})
        return
    _show(schedule, as_json=False)
    for at in times:
        say(f"  {_local(at)}")


@app.command()
def pause(session_id: str, schedule_id: str, user: AsUser = None, as_json: AsJson = False) -> None:
    """Let no tick become a turn until it is resumed."""
    schedule = _schedule(session_id, schedule_id, user)
    schedule.pause()
    _show(schedule, as_json)


@app.command()
def resume(session_id: str, schedule_id: str, user: AsUser = None, as_json: AsJson = False) -> None:
    """Continue with the next tick after now."""
    schedule = _schedule(session_id, schedule_id, user)
    schedule.resume()
    _show(schedule, as_json)


@app.command()
def trigger(session_id: str, schedule_id: str, user: AsUser = None, as_json: AsJson = False) -> None:
    """Send its message now; prints the turn's id."""
    turn = _schedule(session_id, schedule_id, user).trigger()
    if as_json:
        print_json({"turn": turn.id})
    else:
        say(turn.id)


@app.command()
def delete(
    session_id: str,
    schedule_id: str,
    user: AsUser = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a schedule. Turns that its ticks became stay."""
    schedule = _schedule(session_id, schedule_id, user)
    if not yes:
        confirm(f"Delete schedule {schedule_id!r} of session {session_id!r}?")
    existed = schedule.delete()
    if as_json:
        print_json({"deleted": existed})
    elif existed:
        say(f"schedule {schedule_id!r} deleted")
    else:
        print_error(f"schedule {schedule_id!r} was deleted by somebody else meanwhile")


def _session(session_id: str, user: str | None) -> Session:
    # With the address filled in: looking at a fleet must not start one.
    return Session(session_id, user_id=user, settings=running_store(load_settings()))


def _schedule(session_id: str, schedule_id: str, user: str | None) -> Schedule:
    return _session(session_id, user).get_schedule(schedule_id)


def _show(schedule: Schedule, as_json: bool) -> None:
    info = schedule.info
    if as_json:
        print_json(_fields(info))
    else:
        upcoming = "paused" if info.paused else f"next {_local(info.next_run_at)}"
        say(f"schedule {info.schedule_id!r}: {info.cron} ({info.timezone}), {upcoming}")


def _row(info: ScheduleInfo) -> list[Any]:
    upcoming = "paused" if info.paused else _local(info.next_run_at)
    last = "" if info.last_run_at is None else f"{_local(info.last_run_at)} {info.last_status or ''}".strip()
    counts = [info.runs, info.missed_runs, info.skipped_runs]
    return [info.schedule_id, info.cron, info.timezone, upcoming, last, *map(str, counts), info.message]


def _fields(info: ScheduleInfo) -> dict[str, Any]:
    """As JSON: times in ISO format."""
    fields = asdict(info)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


def _local(at: datetime | None) -> str:
    return "never" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M}"
