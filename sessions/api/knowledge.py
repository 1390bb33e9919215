"""A session's knowledge: documents that its agents and callers search. They live in Qdrant, the list of them in Redis.

Whose a document is, its scope says: this session's, a user's in all sessions, or a named base's, which every session
of the tenant may attach to. No search leaves its scopes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from sessions.api.operation import Operation, Progress
from sessions.client.arguments.documents import source_name
from sessions.client.ports import HasPortal, KnowledgeCalls
from sessions.errors import SessionfleetError
from sessions.local import knowledge as local_knowledge

Told = Callable[[Progress], Any]


class _Session(Protocol):
    """What of a session these methods need."""

    _knowledge_calls: ClassVar[KnowledgeCalls]

    @property
    def client(self) -> HasPortal: ...

    async def asubmit_knowledge(self, source: object, **options: Any) -> Operation: ...

    def submit_knowledge(self, source: object, **options: Any) -> Operation: ...


class KnowledgeMethods:
    """The knowledge methods of `Session`, each with its async twin."""

    _knowledge_calls: ClassVar[KnowledgeCalls] = local_knowledge

    # --- add --------------------------------------------------------------------------------------------

    async def aadd_knowledge(
        self: _Session, source: object, *, progress: Told | None = None, **options: Any
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
            return [await received(self, one, progress, options) for one in source]
        return await add(self, source, progress, options)

    def add_knowledge(
        self: _Session, source: object, *, progress: Told | None = None, **options: Any
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Take in a document, or several; see `aadd_knowledge`."""
        if isinstance(source, list | tuple):
            return [received_blocking(self, one, progress, options) for one in source]
        return add_blocking(self, source, progress, options)

    async def asubmit_knowledge(self: _Session, source: object, **options: Any) -> Operation:
        """Have one document accepted and return at once; it will be taken in, whatever happens to this process.

        Args:
            options: as `aadd_knowledge`, and `idempotency_key`, and `webhook`: the URL that is told of its end.
        """
        return await self.client.portal.acall(self._knowledge_calls.submit(self, source, **options))

    def submit_knowledge(self: _Session, source: object, **options: Any) -> Operation:
        """Have one document accepted and return at once; see `asubmit_knowledge`."""
        return self.client.portal.call(self._knowledge_calls.submit(self, source, **options))

    async def aoperation(self: _Session, operation_id: str) -> Operation:
        """A document on its way in, by the id of its operation, from any process.

        Raises:
            InvalidTurnId: it is none, or of a scope that this session is not attached to. SessionOwnerError.
        """
        return await self.client.portal.acall(self._knowledge_calls.operation_of(self, operation_id))

    def operation(self: _Session, operation_id: str) -> Operation:
        """A document on its way in, by the id of its operation; see `aoperation`."""
        return self.client.portal.call(self._knowledge_calls.operation_of(self, operation_id))

    # --- find -------------------------------------------------------------------------------------------

    async def asearch_knowledge(
        self: _Session,
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
        return await self.client.portal.acall(
            self._knowledge_calls.search(self, query, limit, filters, sources, scope, timeout)
        )

    def search_knowledge(
        self: _Session,
        query: str,
        limit: int = 5,
        filters: Mapping[str, Any] | None = None,
        *,
        sources: Sequence[str] | None = None,
        scope: str | None = None,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """The passages that answer a query best; see `asearch_knowledge`."""
        return self.client.portal.call(
            self._knowledge_calls.search(self, query, limit, filters, sources, scope, timeout)
        )

    async def alist_knowledge(self: _Session, *, scope: str | None = None) -> list[dict[str, Any]]:
        """The documents of a scope (default: where `add_knowledge` puts them), by name; needs no worker.

        Returns:
            Dicts with `source`, `kind`, `bytes`, `pages`, `chunks`, `collection`, `metadata`, `added_ms`.
        """
        return await self.client.portal.acall(self._knowledge_calls.list_sources(self, scope))

    def list_knowledge(self: _Session, *, scope: str | None = None) -> list[dict[str, Any]]:
        """The documents of a scope; see `alist_knowledge`."""
        return self.client.portal.call(self._knowledge_calls.list_sources(self, scope))

    # --- remove -----------------------------------------------------------------------------------------

    async def adelete_knowledge(self: _Session, source: str, *, scope: str | None = None) -> int:
        """Remove a document by its name; how many chunks it had, 0 where there is none."""
        return await self.client.portal.acall(self._knowledge_calls.remove(self, source_name(source), scope))

    def delete_knowledge(self: _Session, source: str, *, scope: str | None = None) -> int:
        """Remove a document; see `adelete_knowledge`."""
        return self.client.portal.call(self._knowledge_calls.remove(self, source_name(source), scope))

    async def aclear_knowledge(self: _Session, *, scope: str | None = None) -> int:
        """Remove all documents of a scope; how many chunks they had."""
        return await self.client.portal.acall(self._knowledge_calls.clear(self, scope))

    def clear_knowledge(self: _Session, *, scope: str | None = None) -> int:
        """Remove all documents of a scope; see `aclear_knowledge`."""
        return self.client.portal.call(self._knowledge_calls.clear(self, scope))


class Adding(Protocol):
    """What of a session this needs."""

    async def asubmit_knowledge(self, source: object, **options: Any) -> Operation:
        """Have one document accepted."""
        ...

    def submit_knowledge(self, source: object, **options: Any) -> Operation:
        """Have one document accepted."""
        ...


async def add(session: Adding, given: object, told: Told | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Take one document in; see `KnowledgeMethods.aadd_knowledge`."""
    operation = await session.asubmit_knowledge(given, **options)
    if told is not None:
        async for progress in operation.aprogress():
            told(progress)
    result: dict[str, Any] = await operation.aresult(options.get("timeout"))
    return result


def add_blocking(session: Adding, given: object, told: Told | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """As `add`; its own, so that `told` is called on the caller's thread."""
    operation = session.submit_knowledge(given, **options)
    if told is not None:
        for progress in operation.progress():
            told(progress)
    result: dict[str, Any] = operation.result(options.get("timeout"))
    return result


async def received(session: Adding, given: object, told: Told | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """What became of one of several: its error is said, and the others go on."""
    try:
        return await add(session, given, told, options)
    except (SessionfleetError, OSError) as error:
        return _failure(given, error)


def received_blocking(session: Adding, given: object, told: Told | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """As `received`, with `told` called on the caller's thread."""
    try:
        return add_blocking(session, given, told, options)
    except (SessionfleetError, OSError) as error:
        return _failure(given, error)


def _failure(given: object, error: Exception) -> dict[str, Any]:
    shown = given if isinstance(given, str) else getattr(given, "name", type(given).__name__)
    return {"source": str(shown)[:200], "status": "failed", "error": str(error), "type": type(error).__name__}
