"""`sessionfleet sessions search` and `searchable`: find messages, and choose whose can be found."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from broker_config.settings import load_settings
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.output import print_json, print_table, say
from sessions.cli.store import running_store
from sessions.cli.times import WHEN, time_of
from sessions.client.arguments.history_search import MOST_MATCHES, role_named
from sessions.errors import BadRequest


def search(
    query: str,
    user: Annotated[str | None, typer.Option("--user", help="In all sessions of this user.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="In this session only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_MATCHES)] = 10,
    role: Annotated[str | None, typer.Option(help="user or assistant; both by default.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Only messages of turns that began then or later. {WHEN}")] = None,
    until: Annotated[str | None, typer.Option(help=f"Only messages of turns that began before then. {WHEN}")] = None,
    as_json: AsJson = False,
) -> None:
    """Find messages in the transcripts of searchable sessions, the best first."""
    if (session is None) == (user is None):
        raise BadRequest("search where? use --session ID, or --user USER for all sessions of a user")
    options: dict[str, Any] = {
        "limit": limit,
        "role": role_named(role),
        "since": _moment("--since", since),
        "until": _moment("--until", until),
    }
    settings = running_store(load_settings())
    if session is not None:
        found = Session(session, settings=settings).search_history(query, **options)
    else:
        found = Session.search(query, user, settings=settings, **options)
    if as_json:
        print_json([{**asdict(message), "at": message.at.isoformat()} for message in found])
    elif not found:
        say("nothing was found")
    else:
        rows = [
            (m.session_id, f"{m.at.astimezone():%Y-%m-%d %H:%M}", m.role, f"{m.score:.2f}", m.turn_id, m.text)
            for m in found
        ]
        print_table(("session", "time", "role", "score", "turn", "text"), rows, spare=("turn", "score"), cut="text")


def searchable(
    session_id: str,
    off: Annotated[bool, typer.Option("--off", help="Remove it from the index.")] = False,
) -> None:
    """Make the transcript of a session searchable, with all of its history, in the background."""
    Session(session_id, settings=running_store(load_settings())).update(searchable=not off)
    say(f"session {session_id!r} is {'no longer' if off else 'now'} searchable")


def _moment(option: str, text: str | None) -> datetime | None:
    return None if text is None else time_of(option, text)
