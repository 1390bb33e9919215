"""A session's knowledge: documents that its agents and callers search. They live in Qdrant, the list of them in Redis.

Whose a document is, its scope says: this session's, a user's in all sessions, or a named base's, which every session
of the tenant may attach to. No search leaves its scopes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from sessions import knowledge_calls
from sessions.knowledge_adding import Told, add, add_blocking, received, received_blocking
from sessions.operation import Operation
from sessions.session_ports import HasPortal, KnowledgeCalls
from sessions.sources import source_name


class _Session(Protocol):
    """What of a session these methods need."""

    _knowledge_calls: ClassVar[KnowledgeCalls]

    @property
    def client(self) -> HasPortal: ...

    async def asubmit_knowledge(self, source: object, **options: Any) -> Operation: ...

    def submit_knowledge(self, source: object, **options: Any) -> Operation: ...


class KnowledgeMethods:
    """The knowledge methods of `Session`, each with its async twin."""

    _knowledge_calls: ClassVar[KnowledgeCalls] = knowledge_calls

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
