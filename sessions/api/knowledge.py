"""A session's knowledge: documents that its agents and callers search. They live in Qdrant, the list of them in Redis.

Whose a document is, its scope says: this session's, a user's in all sessions, or a named base's, which every session
of the tenant may attach to. No search leaves its scopes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sessions.api.operation import Operation, Progress
from sessions.client.arguments.documents import source_name
from sessions.client.arguments.knowledge import KnowledgeQuery, NewDocument
from sessions.client.blocking import blocking
from sessions.client.ports import BackedSession
from sessions.errors import SessionfleetError

ProgressCallback = Callable[[Progress], Any]


class _Adding(BackedSession, Protocol):
    """What adding documents needs of a session."""

    async def asubmit_knowledge(self, /, source: object, **options: Any) -> Operation: ...

    def submit_knowledge(self, /, source: object, **options: Any) -> Operation: ...


class KnowledgeMethods:
    """The knowledge methods of `Session`, each with its async form."""

    # --- add --------------------------------------------------------------------------------------------

    async def aadd_knowledge(
        self: _Adding, /, source: object, *, progress: ProgressCallback | None = None, **options: Any
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Take in a document, or several, and wait until they can be found.

        Args:
            source: a path, a text, bytes, an address (where the workers may fetch), or a list of these. What looks
                like a file and is none is FileNotFoundError. A document of the same name replaces the older one.
            progress: called with a `Progress` as it goes on.
            options: `name` (what the document is called; the file's name by default), `metadata` (a dict, for
                filters), `scope` ("session", "user" or the name of a base), `content_type`, `timeout` (seconds).

        Returns:
            What became of it: `source`, `status` (`added`, `replaced`, `unchanged`, or `duplicate`: another document
            of this scope, named in `source`, has the same content), `kind`, `bytes`, `pages`, `chunks`. For a list, a
            list of these; one that could not be taken in has `error` instead, and the others go on.

        Raises:
            DocumentError: the document cannot be read; FileNotFoundError, BadRequest, ResultTimeout, BackendError.
        """
        if isinstance(source, list | tuple):
            return [await _add_of_several(self, one, progress, options) for one in source]
        return await _add(self, source, progress, options)

    def add_knowledge(
        self: _Adding, /, source: object, *, progress: ProgressCallback | None = None, **options: Any
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Take in a document, or several; see `aadd_knowledge`."""
        if isinstance(source, list | tuple):
            return [_add_of_several_blocking(self, one, progress, options) for one in source]
        return _add_blocking(self, source, progress, options)

    async def asubmit_knowledge(self: BackedSession, /, source: object, **options: Any) -> Operation:
        """Have one document accepted and return at once; it will be taken in, whatever happens to this process.

        Args:
            options: as `aadd_knowledge`, and `idempotency_key`, and `webhook`: the URL that is told of its end.
        """
        document = NewDocument.of(source, **options)
        accepted = await self.portal.acall(self.backend.knowledge.submit(self, document))
        return Operation(self.backend.client(self), *accepted)

    submit_knowledge = blocking(asubmit_knowledge)

    async def aoperation(self: BackedSession, operation_id: str) -> Operation:
        """A document on its way in, by the id of its operation, from any process.

        Raises:
            InvalidTurnId: it is none, or of a scope that this session is not attached to. SessionOwnerError.
        """
        found = await self.portal.acall(self.backend.knowledge.operation_of(self, operation_id))
        return Operation(self.backend.client(self), *found)

    operation = blocking(aoperation)

    # --- find -------------------------------------------------------------------------------------------

    async def asearch_knowledge(
        self: BackedSession,
        query: str,
        limit: int = 5,
        filters: Mapping[str, Any] | None = None,
        *,
        sources: Sequence[str] | None = None,
        scope: str | None = None,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """The passages that answer a query best, by meaning and by words.

        Args:
            limit: at most so many, 100 at most.
            filters: only what was added with this metadata; a list means any of its values.
            sources: only these documents.
            scope: only "session", "user" or one base; None: all that this session is attached to.

        Returns:
            Dicts with `text`, `score` (larger is better, comparable within one search), `similarity` (cosine, or
            None), `source`, `chunk` (its number), `page`, `heading`, `start`, `end` (characters), `metadata`, `id`.
            Empty where nothing was added.

        Raises:
            BadRequest, ResultTimeout (NoWorkerAlive), TurnFailed, BackendError.
        """
        wanted = KnowledgeQuery.of(query, limit, filters, sources, scope, timeout)
        return await self.portal.acall(self.backend.knowledge.search(self, wanted))

    search_knowledge = blocking(asearch_knowledge)

    async def alist_knowledge(self: BackedSession, *, scope: str | None = None) -> list[dict[str, Any]]:
        """The documents of a scope (default: where `add_knowledge` puts them), by name; needs no worker.

        Returns:
            Dicts with `source`, `kind`, `bytes`, `pages`, `chunks`, `collection`, `metadata`, `added_ms`.
        """
        return await self.portal.acall(self.backend.knowledge.list_sources(self, scope))

    list_knowledge = blocking(alist_knowledge)

    # --- remove -----------------------------------------------------------------------------------------

    async def adelete_knowledge(self: BackedSession, source: str, *, scope: str | None = None) -> int:
        """Remove a document by its name; how many chunks it had, 0 where there is none."""
        return await self.portal.acall(self.backend.knowledge.remove(self, source_name(source), scope))

    delete_knowledge = blocking(adelete_knowledge)

    async def aclear_knowledge(self: BackedSession, *, scope: str | None = None) -> int:
        """Remove all documents of a scope; how many chunks they had."""
        return await self.portal.acall(self.backend.knowledge.clear(self, scope))

    clear_knowledge = blocking(aclear_knowledge)


async def _add(
    session: _Adding, given: object, report: ProgressCallback | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Add one document, and wait for its receipt."""
    operation = await session.asubmit_knowledge(given, **options)
    if report is not None:
        async for progress in operation.aprogress():
            report(progress)
    receipt: dict[str, Any] = await operation.aresult(options.get("timeout"))
    return receipt


def _add_blocking(
    session: _Adding, given: object, report: ProgressCallback | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """As `_add`; written by hand, so that `report` is called on the caller's thread."""
    operation = session.submit_knowledge(given, **options)
    if report is not None:
        for progress in operation.progress():
            report(progress)
    receipt: dict[str, Any] = operation.result(options.get("timeout"))
    return receipt


async def _add_of_several(
    session: _Adding, given: object, report: ProgressCallback | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The receipt of one document of a list: an error is part of it, and the others go on."""
    try:
        return await _add(session, given, report, options)
    except (SessionfleetError, OSError) as error:
        return _failure(given, error)


def _add_of_several_blocking(
    session: _Adding, given: object, report: ProgressCallback | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """As `_add_of_several`, with `report` called on the caller's thread."""
    try:
        return _add_blocking(session, given, report, options)
    except (SessionfleetError, OSError) as error:
        return _failure(given, error)


def _failure(given: object, error: Exception) -> dict[str, Any]:
    shown = given if isinstance(given, str) else getattr(given, "name", type(given).__name__)
    return {"source": str(shown)[:200], "status": "failed", "error": str(error), "type": type(error).__name__}
