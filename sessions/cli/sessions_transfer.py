"""`sessionfleet sessions export` and `import`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from broker_config.settings import load_settings
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.output import print_json, say
from sessions.cli.store import running_store
from sessions.cli.turn_bar import turn_bar
from sessions.errors import BadRequest
from sessions.transfer.portable import SUFFIX

User = Annotated[str | None, typer.Option("--user", help="The user who owns the session.")]
_NOT_ENCRYPTED = (
    "WARNING: what was written is NOT encrypted, whatever SESSIONFLEET_ENCRYPTION_KEYS says: it contains everything "
    "that people and agents wrote"
)


def export_session(
    session_id: str,
    folder: Annotated[
        Path, typer.Argument(help="The session's folder is made in it: state.json, memory/, knowledge/.")
    ] = Path(".sessions"),
    file: Annotated[Path | None, typer.Option("--file", help=f"Write one portable file ({SUFFIX}) instead.")] = None,
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Write a session into a folder or one file. What is written is not encrypted."""
    if file is not None and file.suffix != SUFFIX:
        raise BadRequest(f"--file {str(file)!r}: use a name that ends in {SUFFIX}")
    # With the address filled in: looking at a fleet must not start one.
    session = Session(session_id, user, settings=running_store(load_settings()))
    with turn_bar(session_id) as progress:
        written = session.export(folder if file is None else file, progress=progress)
    say(_NOT_ENCRYPTED, stderr=True)
    if as_json:
        print_json({"session_id": session_id, "path": str(written)})
    else:
        say(f"session {session_id} exported to {written}")


def import_session(
    path: Annotated[
        str,
        typer.Argument(
            help="An export (folder or file), a session of PraisonAI (JSON), of the OpenAI Agents SDK (SQLite, "
            "redis://...), of Google ADK (SQLite), or messages of pydantic-ai (JSON)."
        ),
    ],
    session_id: Annotated[
        str | None, typer.Option("--session", help="The id of the new session; by default the one in the file.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Its owner; by default the one in the file.")] = None,
    from_session: Annotated[
        str | None, typer.Option("--from-session", help="Which session, if there are several.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", help="The name for turns whose agent the file does not name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a session from an export, or from a session of another library. The format is detected."""
    settings = running_store(load_settings())
    with turn_bar(path) as progress:
        done = Session.import_from(
            path, session_id, user, from_session=from_session, agent=agent, settings=settings, progress=progress
        )
    if as_json:
        print_json(
            {
                "session_id": done.session.session_id,
                "user_id": done.session.user_id,
                "format": done.format,
                "counts": dict(done.counts),
                "left_out": list(done.left_out),
                "repeated": done.repeated,
            }
        )
        return
    if done.repeated:
        say(f"session {done.session.session_id} was imported before: nothing changed")
    else:
        say(f"session {done.session.session_id} imported from {done.format}: {_shown(done.counts)}")
    for line in done.left_out:
        say(f"not carried over: {line}", stderr=True)


def _shown(counts: Mapping[str, int]) -> str:
    found = [f"{number} {name}" for name, number in counts.items() if number]
    return ", ".join(found) or "no turns"
