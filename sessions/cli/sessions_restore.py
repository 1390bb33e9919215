"""`sessionfleet sessions restore`: the sessions of an archive, created again in a deployment that has lost them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import typer

from broker_config.settings import Settings, load_settings
from sessions.api.session import Session
from sessions.archive.address import open_archive
from sessions.archive.records import Archive, ArchivedTurn, SessionSnapshot
from sessions.cli.fleet import AsJson
from sessions.cli.output import counted, print_error, print_json, say
from sessions.cli.store import running_store
from sessions.cli.turn_bar import turn_bar
from sessions.client.backend import NewSession, Progress
from sessions.errors import SessionExists, SessionfleetError
from sessions.protocol.turn import TurnStatus
from sessions.transfer.records import PastTurn, Record, SessionHeader
from sessions.transfer.restored import RestoredTurn, restored_records
from sessions.transfer.sources import Source, inspected


def restore_sessions(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="The archive: sqlite:///<path>, jsonl:<path>, postgresql://...; by default the "
            "one in SESSIONFLEET_ARCHIVE.",
        ),
    ] = None,
    only: Annotated[str | None, typer.Option("--session", help="Only the session with this id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create the sessions of an archive again, with their history, state and agents. Existing ones are left alone."""
    settings = running_store(load_settings())
    archive = open_archive(_address(source, settings))
    restored, existing, failed = [], [], []
    try:
        for found in archive.sessions():
            if only is not None and found.session_id != only:
                continue
            try:
                with turn_bar(found.session_id) as progress:
                    _restore(archive, found, settings, progress)
                restored.append(found.session_id)
            except SessionExists:
                existing.append(found.session_id)
            except SessionfleetError as error:
                failed.append(found.session_id)
                print_error(f"session {found.session_id!r} was not restored: {error}")
    finally:
        archive.close()
    if as_json:
        print_json({"restored": restored, "existing": existing, "failed": failed})
    else:
        say(f"{counted(len(restored), 'session')} restored, {len(existing)} left alone because they exist")
    if failed:
        raise typer.Exit(1)


def _address(source: str | None, settings: Settings) -> str:
    if source is not None:
        return source
    if settings.archive is None:
        raise typer.BadParameter("name the archive with --from, or set SESSIONFLEET_ARCHIVE")
    return settings.archive.get_secret_value()


def _restore(archive: Archive, found: SessionSnapshot, settings: Settings, progress: Progress | None) -> None:
    source = Source("an archive", partial(_records, archive, found))
    _, origin = inspected(source)
    session = Session(found.session_id, found.user_id, ttl=found.ttl, tenant=found.tenant, settings=settings)
    new = NewSession(source, found.user_id, found.ttl, found.queue, origin, progress)
    session.portal.call(session.backend.transfer.create_from(session, new))


def _records(archive: Archive, found: SessionSnapshot) -> Iterator[Record]:
    header = SessionHeader(
        session_id=found.session_id,
        user_id=found.user_id,
        title=found.title or None,
        metadata=found.metadata,
        queue=found.queue,
        ttl=found.ttl,
        created_ms=found.created_ms,
    )
    return restored_records(
        header, found.agents, found.state, lambda: map(_turn, archive.turns(found.tenant, found.session_id))
    )


def _turn(archived: ArchivedTurn) -> RestoredTurn:
    incomplete = "" if archived.status == TurnStatus.SUCCEEDED else archived.status
    turn = PastTurn(
        turn=archived.turn,
        agent=archived.agent,
        at_ms=archived.at_ms,
        count=archived.count,
        incomplete=incomplete,
        sender=archived.sender,
        messages=archived.messages,
    )
    return RestoredTurn(turn, archived.replaces_at)
