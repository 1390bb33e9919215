"""`sessionfleet sessions`: list, show, search, copy, share and delete sessions."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from broker_config.settings import load_settings
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.output import ago, confirm, print_error, print_fields, print_json, print_table, say
from sessions.cli.sessions_compact import compact
from sessions.cli.sessions_restore import restore_sessions
from sessions.cli.sessions_search import search, searchable
from sessions.cli.sessions_transfer import export_session, import_session
from sessions.cli.store import running_store
from sessions.cli.times import WHEN, time_of
from sessions.client.arguments.sessions import SessionOrder
from sessions.client.arguments.values import rights_named
from sessions.client.transcript import Message, SortOrder
from sessions.errors import BadRequest
from sessions.store.session_info import SessionInfo

app = typer.Typer(help="List, show, search, copy, share, export, import and delete sessions.", no_args_is_help=True)
app.command("export")(export_session)
app.command("import")(import_session)
app.command("restore")(restore_sessions)
app.command()(search)
app.command()(searchable)
app.command()(compact)

OfUser = Annotated[str | None, typer.Option("--user", help="Only sessions of this user.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command("list")
def list_sessions(
    user: OfUser = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="The cursor at the end of the previous page.")] = None,
    order: Annotated[str, typer.Option(help="last_used or created; the newest first.")] = "last_used",
    metadata: Annotated[list[str] | None, typer.Option(help="Only sessions with this value, as name=value.")] = None,
    active_since: Annotated[str | None, typer.Option(help=f"Only sessions used since then. {WHEN}")] = None,
    unused_since: Annotated[str | None, typer.Option(help=f"Only sessions not used since then. {WHEN}")] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="The sessions of others that are shared with --user.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List sessions, the last used first."""
    page = Session.list(
        user,
        limit=limit,
        cursor=cursor,
        order=_order(order),
        metadata=dict(_value(each) for each in metadata or ()),
        active_since=None if active_since is None else time_of("--active-since", active_since),
        unused_since=None if unused_since is None else time_of("--unused-since", unused_since),
        shared=shared,
        settings=running_store(load_settings()),  # looking at a fleet must not start one
    )
    if as_json:
        found = [_as_dict(info) for info in page]
        print_json({"sessions": found, "cursor": page.cursor, "complete": page.complete})
        return
    if not page and page.cursor is None:
        say("no sessions yet; use `sessionfleet chat`" if user is None else f"user {user!r} has no sessions")
    else:
        columns = ("session", "user", "used", "turns", "open", "cost", "title")
        rows = [
            (i.session_id, i.user_id or "", _age_of(i), i.turns, i.open_turns, _cost(i.cost), i.title) for i in page
        ]
        print_table(columns, rows, spare=("cost", "open", "user"), cut="title")
    if page.cursor is not None:
        print_error(f"there are more: add `--cursor {page.cursor}`")
    if not page.complete:
        print_error("a worker still adds the sessions of an older version to the list: some are missing")


@app.command()
def show(session_id: str, as_json: AsJson = False) -> None:
    """Show a session: title, metadata, owner, times, counts, agents, and whom it is shared with."""
    session = _session(session_id)
    fields = _as_dict(session.info()) | {"agents": session.get_context()["agents"]}
    fields["shared_with"] = session.shared_with()
    if as_json:
        print_json(fields)
        return
    shown = {name: _text(value) for name, value in fields.items()}
    print_fields({name: value for name, value in shown.items() if value != ""})


@app.command()
def history(
    session_id: str,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The number of turns whose messages to show.")] = 50,
    order: Annotated[str, typer.Option(help="oldest or newest: which turns come first.")] = "newest",
    cursor: Annotated[int | None, typer.Option(help="The cursor at the end of the previous page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the messages of a session, in the order in which they were written."""
    session = _session(session_id)
    session.info()  # an error for a session that does not exist
    page = session.history(limit, order=_turn_order(order), cursor=cursor)
    if as_json:
        print_json({"messages": [asdict(message) for message in page], "cursor": page.cursor})
        return
    for message in page:
        say(_line(message))
    if page.cursor is not None:
        print_error(f"there are more: add `--cursor {page.cursor}`")


@app.command()
def fork(
    session_id: str,
    new_id: Annotated[str | None, typer.Option("--id", help="Id of the copy; generated by default.")] = None,
    at: Annotated[str | None, typer.Option(help="Id of the last turn to copy; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a session, up to a turn; prints the id of the copy."""
    session = _session(session_id)
    queue = session.info().queue
    made = Session(session_id, queue=queue, settings=session.settings).fork(new_id, at=at)
    if as_json:
        print_json({"session_id": made.session_id})
    else:
        say(made.session_id)


@app.command()
def share(
    session_id: str,
    user: str,
    rights: Annotated[str, typer.Option(help="read, or write (which includes reading).")] = "read",
) -> None:
    """Let another user read a session, or read it and write to it."""
    _session(session_id).share(user, rights_named(rights))
    say(f"user {user!r} may {rights} session {session_id!r}")


@app.command()
def unshare(session_id: str, user: str) -> None:
    """End the sharing of a session with a user."""
    if _session(session_id).unshare(user):
        say(f"session {session_id!r} is no longer shared with user {user!r}")
    else:
        say(f"session {session_id!r} was not shared with user {user!r}")


@app.command()
def prune(
    unused_since: Annotated[str, typer.Option("--unused-since", help=f"Last used before then. {WHEN}")],
    user: OfUser = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete the sessions that were not used since a time, with everything in them.

    Those with an open turn or an active schedule are kept.
    """
    since = time_of("--unused-since", unused_since)
    if not yes:
        whose = "all sessions" if user is None else f"the sessions of user {user!r}"
        confirm(f"Delete {whose} that were not used since {since.astimezone():%Y-%m-%d %H:%M}?")
    _receipt(Session.prune(since, user, settings=running_store(load_settings())), as_json)


@app.command()
def delete(
    session_id: Annotated[str | None, typer.Argument()] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Delete everything of this user: sessions, memories, state, documents.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete a session, or everything of a user; prints a receipt."""
    if (session_id is None) == (user is None):
        raise BadRequest("delete what? name a session, or use --user USER")
    if not yes:
        what = f"everything of user {user!r}" if session_id is None else f"session {session_id!r} and all in it"
        confirm(f"Delete {what}?")
    if user is not None:
        _receipt(Session.delete_user(user, settings=running_store(load_settings())), as_json)
    else:
        _receipt(_session(str(session_id)).delete(), as_json)


def _session(session_id: str) -> Session:
    return Session(session_id, settings=running_store(load_settings()))


def _order(text: str) -> SessionOrder:
    if text == "created":
        return "created"
    if text == "last_used":
        return "last_used"
    raise BadRequest(f"--order {text!r}: use last_used or created")


def _turn_order(text: str) -> SortOrder:
    if text == "oldest":
        return "oldest"
    if text == "newest":
        return "newest"
    raise BadRequest(f"--order {text!r}: use oldest or newest")


def _value(text: str) -> tuple[str, Any]:
    """A name and a value: `true`, `false` and numbers as such, anything else as a text."""
    name, mark, value = text.partition("=")
    if not mark:
        raise BadRequest(f"--metadata {text!r}: use name=value")
    if value in ("true", "false"):
        return name, [value == "true", value]
    try:
        return name, [float(value), value]
    except ValueError:
        return name, value


def _as_dict(info: SessionInfo) -> dict[str, Any]:
    fields = asdict(info)
    times = ("created_at", "last_used_at", "expires_at")
    return fields | {name: None if fields[name] is None else fields[name].isoformat() for name in times}


def _cost(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:.2f}"


def _age_of(info: SessionInfo) -> str:
    return ago((datetime.now(UTC) - info.last_used_at).total_seconds())


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _line(message: Message) -> str:
    who = "user" if message.role == "user" else message.agent
    what = message.text if message.tool is None else f"[{message.role} {message.tool}] {message.text or message.args}"
    return f"{message.at.astimezone():%Y-%m-%d %H:%M} {who}: {what}"


def _receipt(receipt: dict[str, int], as_json: bool) -> None:
    if as_json:
        print_json(receipt)
        return
    said = [f"{name}: {receipt[name]}" for name in receipt if receipt[name]]
    say(f"deleted {', '.join(said) or 'nothing'}")
