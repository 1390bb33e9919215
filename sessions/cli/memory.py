"""`sessionfleet memory`: memories of sessions and users."""

from __future__ import annotations

from typing import Annotated

import typer

from broker_config.settings import Settings, load_settings
from sessions.api.memory import ScopeName
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.metadata import Filters, Metadata, json_option
from sessions.cli.output import confirm, print_error, print_json, print_table, say
from sessions.cli.store import running_store
from sessions.errors import BadRequest

app = typer.Typer(help="Manage memories of sessions and users.", no_args_is_help=True)

InSession = Annotated[str | None, typer.Option("--session", help="A session's own memory.")]
OfUser = Annotated[str | None, typer.Option("--user", help="The user's memory; with --session: the session's user.")]
Kind = Annotated[str | None, typer.Option("--type", help="short or long; by default both.")]
# A command that names a user and no session opens one with a generated id, which must not be kept.
_PASSING = 60.0


@app.command("list")
def list_memories(
    session: InSession = None,
    user: OfUser = None,
    memory_type: Kind = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="The cursor at the end of the previous page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List memories, newest first."""
    # With the address filled in: looking at a fleet must not start one.
    target, scope = _target(session, user, running_store(load_settings()))
    page = target.list_memory(limit, memory_type=memory_type, scope=scope, cursor=cursor)
    if as_json:
        print_json({"memories": page.memories, "cursor": page.cursor})
        return
    if not page:
        say("no memories yet; use `sessionfleet memory add TEXT`")
        return
    rows = [(m["id"], m["type"], f"{m['updated_at'].astimezone():%Y-%m-%d %H:%M}", m["text"]) for m in page]
    print_table(("memory", "type", "updated", "text"), rows, spare=("type", "updated"), cut="text")
    if page.cursor is not None:
        print_error(f"there are more: add `--cursor {page.cursor}`")


@app.command()
def search(
    query: str,
    session: InSession = None,
    user: OfUser = None,
    memory_type: Kind = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 5,
    filters: Filters = None,
    as_json: AsJson = False,
) -> None:
    """Find memories that match a query; with --session and --user, those of both."""
    target, scope = _target(session, user)
    found = target.search_memory(
        query,
        memory_type,
        limit=limit,
        filters=json_option("--filters", filters),
        scope=None if session is not None and user is not None else scope,
    )
    if as_json:
        print_json(found)
    elif not found:
        say("nothing was found")
    else:
        rows = [(memory["id"], f"{memory['score']:.2f}", memory["scope"], memory["text"]) for memory in found]
        print_table(("memory", "score", "scope", "text"), rows, spare=("scope",), cut="text")


@app.command()
def add(
    text: str,
    session: InSession = None,
    user: OfUser = None,
    memory_type: Annotated[str, typer.Option("--type", help="short or long.")] = "long",
    metadata: Metadata = None,
) -> None:
    """Add a memory; prints its id."""
    target, scope = _target(session, user)
    say(target.add_memory(text, memory_type, metadata=json_option("--metadata", metadata), scope=scope))


@app.command()
def update(
    memory_id: str,
    text: Annotated[str | None, typer.Argument(help="The new text; without it the text stays.")] = None,
    session: InSession = None,
    user: OfUser = None,
    memory_type: Annotated[str | None, typer.Option("--type", help="short or long.")] = None,
    metadata: Metadata = None,
    as_json: AsJson = False,
) -> None:
    """Change one memory; its id stays."""
    target, _ = _target(session, user)
    new = None if metadata is None else json_option("--metadata", metadata)
    changed = target.update_memory(memory_id, text, metadata=new, memory_type=memory_type)
    if changed is None:
        raise _no_memory(memory_id)
    if as_json:
        print_json(changed)
    else:
        say(f"memory {memory_id} changed (version {changed['version']})")


@app.command()
def delete(memory_id: str, session: InSession = None, user: OfUser = None) -> None:
    """Delete one memory."""
    target, _ = _target(session, user)
    if not target.delete_memory(memory_id):
        raise _no_memory(memory_id)
    say(f"memory {memory_id} deleted")


@app.command()
def clear(
    session: InSession = None,
    user: OfUser = None,
    memory_type: Kind = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete all memories of a session or a user."""
    target, scope = _target(session, user)
    if not yes:
        whose = f"user {user!r}" if scope == "user" else f"session {session!r}"
        confirm(f"Delete all memories of {whose}?")
    forgotten = target.clear_memory(memory_type, scope=scope)
    say("1 memory deleted" if forgotten == 1 else f"{forgotten} memories deleted")


def _no_memory(memory_id: str) -> typer.Exit:
    print_error(f"there is no memory {memory_id!r}; `sessionfleet memory list` lists the memories")
    return typer.Exit(1)


def _target(session: str | None, user: str | None, settings: Settings | None = None) -> tuple[Session, ScopeName]:
    """The session, and which of its scopes was named."""
    if session is not None:
        return Session(session, user_id=user, settings=settings), "session"
    if user is not None:
        return Session(user_id=user, ttl=_PASSING, settings=settings), "user"
    raise BadRequest("whose memory? use --session ID or --user USER")
