"""The methods of `Session` that import one from a file, or from a session of another library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from broker_config.names import LONGEST_ID, name_problem
from sessions.api.transfer import ImportReport
from sessions.client.backend import BackedSession, Imported, NewSession, Progress
from sessions.transfer.sources import inspected, open_source


class _Importable(BackedSession, Protocol):
    """A session, as these methods make it."""

    user_id: str | None


S = TypeVar("S", bound=_Importable)


class ImportMethods:
    """The class methods of `Session` that import one."""

    @classmethod
    async def aimport_from(
        cls: type[S],
        path: str | Path,
        session_id: str | None = None,
        user_id: str | None = None,
        *,
        from_session: str | None = None,
        agent: str | None = None,
        ttl: float | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> ImportReport[S]:
        """Create a session from an export, or from a session of another library. Nothing is ever half imported.

        Importing the same content into the same session again changes nothing.

        Args:
            path: an export (a folder, its `state.json`, or a `.jsonl` file), PraisonAI's session JSON, a SQLite file of
                the OpenAI Agents SDK or of Google ADK, pydantic-ai's messages as JSON, or the URL of the Redis of the
                OpenAI Agents SDK. The format is detected.
            session_id: of the new session; None for the one in the file, or a generated one if it has none.
            user_id: the owner; None for the one in the file.
            from_session: which session to import, if there are several.
            agent: the name for turns whose agent is not named in the file; "Assistant" by default.
            ttl: seconds for which the session is kept after its last use; None for what the file says.
            progress: called with the turns so far and the number of all turns, on the client's event loop.
            options: of `Session`, such as `settings=` or `agent_url=`.

        Returns:
            The session, how much was imported, and what could not be carried over.

        Raises:
            SessionExists: the id is taken. InvalidExport: the file is damaged, or in an unknown format.
            BadRequest: there is nothing to import, or several sessions. ResultTimeout, NoWorkerAlive, TurnFailed: its
                documents could not be added; the session exists, and importing it again adds them.
        """
        session, new = await asyncio.to_thread(
            _prepared, cls, path, session_id, user_id, from_session, agent, ttl, progress, options
        )
        return _report(session, new, await session.portal.acall(session.backend.transfer.create_from(session, new)))

    @classmethod
    def import_from(
        cls: type[S],
        path: str | Path,
        session_id: str | None = None,
        user_id: str | None = None,
        *,
        from_session: str | None = None,
        agent: str | None = None,
        ttl: float | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> ImportReport[S]:
        """Create a session from an export, or from a session of another library; see `aimport_from`."""
        session, new = _prepared(cls, path, session_id, user_id, from_session, agent, ttl, progress, options)
        return _report(session, new, session.portal.call(session.backend.transfer.create_from(session, new)))


def _prepared(
    kind: type[S],
    path: str | Path,
    session_id: str | None,
    user_id: str | None,
    from_session: str | None,
    agent: str | None,
    ttl: float | None,
    progress: Progress | None,
    options: Mapping[str, Any],
) -> tuple[S, NewSession]:
    """Read and check what is imported, once; returns the session, which does not exist yet, and the request."""
    source = open_source(path, from_session=from_session, agent=agent)
    header, origin = inspected(source)
    session = cast(Callable[..., S], kind)(
        _usable_id(header.session_id) if session_id is None else session_id, user_id, ttl=ttl, **options
    )
    queue = session.queue if "queue" in options else None
    return session, NewSession(source, session.user_id, session.ttl, queue, origin, progress)


def _report(session: S, new: NewSession, imported: Imported) -> ImportReport[S]:
    session.user_id = imported.user_id
    return ImportReport(session, new.source.format, imported.counts, imported.left_out, imported.repeated)


def _usable_id(session_id: str | None) -> str | None:
    """The id in a file, if a session can have it: other libraries allow other characters."""
    return None if session_id is None or name_problem(session_id, LONGEST_ID) else session_id
