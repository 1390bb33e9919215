"""`sessionfleet memory`: what sessions and users are remembered to have said."""

from __future__ import annotations

from typing import Annotated

import typer

from broker_config.settings import Settings, load_settings
from sessions.api.memory import ScopeName
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.output import confirm, print_error, print_json, print_table, say
from sessions.cli.store import running_store
from sessions.errors import BadRequest

app = typer.Typer(help="What sessions and users are remembered to have said.", no_args_is_help=True)

InSession = Annotated[str | None, typer.Option("--session", help="The session's own memory.")]
OfUser = Annotated[str | None, typer.Option("--user", help="The user's memory; with --session: whose session it is.")]
Kind = Annotated[str | None, typer.Option("--type", help="short or long; by default both.")]
# A command that names a user and no session opens one of a made-up id, which shall not stay.
_PASSING = 60.0


@app.command("list")
def list_memories(
    session: InSession = None,
    user: OfUser = None,
    memory_type: Kind = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before it ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List memories, newest first."""
    # With the address filled in: to look at what there is, no fleet is started.
    target, scope = _target(session, user, running_store(load_settings()))
    page = target.list_memory(limit, memory_type=memory_type, scope=scope, cursor=cursor)
    if as_json:
        print_json({"memories": page.memories, "cursor": page.cursor})
        return
    if not page:
        say("nothing is remembered; `sessionfleet memory add TEXT` does that")
        return
    rows = [(m["id"], m["type"], f"{m['created_at'].astimezone():%Y-%m-%d %H:%M}", m["text"]) for m in page]
    print_table(("memory", "type", "created", "text"), rows, spare=("type", "created"), cut="text")
    if page.cursor is not None:
        print_error(f"there are more: add `--cursor {page.cursor}`")


@app.command()
def search(
    query: str,
    session: InSession = None,
    user: OfUser = None,
    memory_type: Kind = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 5,
    as_json: AsJson = False,
) -> None:
    """Find the memories that fit a query; with --session and --user, of both."""
    target, scope = _target(session, user)
    found = target.search_memory(
        query, memory_type, limit=limit, scope=None if session is not None and user is not None else scope
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
) -> None:
    """Remember a text; prints the memory's id."""
    target, scope = _target(session, user)
    say(target.add_memory(text, memory_type, scope=scope))


@app.command()
def delete(memory_id: str, session: InSession = None, user: OfUser = None) -> None:
    """Forget one memory."""
    target, _ = _target(session, user)
    if not target.delete_memory(memory_id):
        print_error(f"there is no memory {memory_id!r}; `sessionfleet memory list` shows those there are")
        raise typer.Exit(1)
    say(f"memory {memory_id} forgotten")


@app.command()
def clear(
    session: InSession = None,
    user: OfUser = None,
    memory_type: Kind = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget all memories of a session, or of a user."""
    target, scope = _target(session, user)
    if not yes:
        whose = f"user {user!r}" if scope == "user" else f"session {session!r}"
        confirm(f"Forget what is remembered of {whose}?")
    forgotten = target.clear_memory(memory_type, scope=scope)
    say("1 memory forgotten" if forgotten == 1 else f"{forgotten} memories forgotten")


def _target(session: str | None, user: str | None, settings: Settings | None = None) -> tuple[Session, ScopeName]:
    """The session, and which of its scopes was named."""
    if session is not None:
        return Session(session, user_id=user, settings=settings), "session"
    if user is not None:
        return Session(user_id=user, ttl=_PASSING, settings=settings), "user"
    raise BadRequest("whose memory? give --session ID or --user USER")
