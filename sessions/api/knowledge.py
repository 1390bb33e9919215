"""A session's knowledge: documents that its agents and callers search. Qdrant has the documents, Redis a list of them.

A document's scope says whose it is: this session's, a user's (in all sessions), or that of a named base, which every
session of the tenant may use. A search never leaves its scopes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Unpack

from sessions.api.operation import Operation, Progress
from sessions.client.arguments.documents import source_name
from sessions.client.arguments.folders import FolderFile, one_of_several, several
from sessions.client.arguments.knowledge import KnowledgeQuery, NewDocument
from sessions.client.arguments.options import DocumentOptions, takes
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.errors import BadRequest, DocumentWarning, SessionfleetError

ProgressCallback = Callable[[Progress], Any]


class _Adding(BackedSession, Protocol):
    """The session, as adding documents needs it."""

    async def asubmit_knowledge(self, /, source: object, **options: Unpack[DocumentOptions]) -> Operation: ...

    def submit_knowledge(self, /, source: object, **options: Unpack[DocumentOptions]) -> Operation: ...


class KnowledgeMethods:
    """The knowledge methods of `Session`, each with an async form."""

    # --- add --------------------------------------------------------------------------------------------

    @takes(DocumentOptions)
    async def aadd_knowledge(
        self: _Adding,
        /,
        source: object,
        *,
        progress: ProgressCallback | None = None,
        **options: Unpack[DocumentOptions],
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Add a document, or several, and wait until they can be found.

        Args:
            source: a path, text, bytes, a URL (if the workers may fetch it), a folder as a `pathlib.Path`, or a list of
                these. A string that looks like a path raises FileNotFoundError if there is no such file. A document of
                the same name is replaced. The documents of a folder have their paths in it as names.
            progress: called with a `Progress` while the document is processed.
            options: see `sessions.DocumentOptions`.

        Returns:
            A receipt: `source`, `status` (`added`, `replaced`, `unchanged`, or `duplicate`: added, and another document
            of this scope has the same content), `same_as` (the name of such a document, or None), `kind`, `bytes`,
            `pages`, `chunks`, `embedded` (chunks whose texts were new and had to be embedded), `collection`,
            `warnings` (sentences on what of it could not be read), `unread_pages` (the pages of a PDF that could not
            be read, or in part only) and `recognised_pages` (those whose text was recognised). Each warning is a Python
            `DocumentWarning`, too. For a list or a folder, a list of receipts; a document that could not be added has
            `error` instead (status `failed`), and the others are still added. A file of a folder that is no document
            has `reason` (status `skipped`).

        Raises:
            DocumentError: the document cannot be read; FileNotFoundError, BadRequest, ResultTimeout, BackendError.
        """
        if (sources := _sources(source, options)) is not None:
            return [await _add_of_several(self, one, progress, options) for one in sources]
        return await _add(self, source, options, progress)

    @takes(DocumentOptions)
    def add_knowledge(
        self: _Adding,
        /,
        source: object,
        *,
        progress: ProgressCallback | None = None,
        **options: Unpack[DocumentOptions],
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Add a document, or several; see `aadd_knowledge`."""
        if (sources := _sources(source, options)) is not None:
            return [_add_of_several_blocking(self, one, progress, options) for one in sources]
        return _add_blocking(self, source, options, progress)

    @takes(DocumentOptions)
    async def asubmit_knowledge(
        self: BackedSession, /, source: object, **options: Unpack[DocumentOptions]
    ) -> Operation:
        """Return once one document is accepted; it will be added, whatever happens to this process.

        Args:
            options: see `sessions.DocumentOptions`.
        """
        document = NewDocument.of(source, **options)
        accepted = await self.portal.acall(self.backend.knowledge.submit(self, document))
        return Operation(self.backend.client(self), *accepted)

    submit_knowledge = takes(DocumentOptions)(blocking(asubmit_knowledge))

    async def aoperation(self: BackedSession, operation_id: str) -> Operation:
        """A document being added, by the id of its operation, from any process.

        Raises:
            InvalidTurnId: it is not the id of an operation in one of this session's scopes. SessionOwnerError.
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
        min_score: float | None = None,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """The passages that match a query best, by meaning and by words. Each text is among them once.

        Args:
            limit: the largest number of passages, at most 100.
            filters: only passages whose metadata satisfy these conditions: values, lists of accepted values, or
                operators such as `{"year": {"$gte": 2023}}` (docs/retrieval.md lists them).
            sources: only these documents.
            scope: only "session", "user" or one base; None for all scopes of this session.
            min_score: 0 to 1; 1 is the best match by meaning as well as by words. None for the usual floor, below which
                passages have nothing to do with the query; 0 for the best ones whatever they are.

        Returns:
            Dicts with `text`, `score` (0 to 1, comparable between searches with one model), `similarity` (cosine, or
            None), `source`, `chunk` (its number), `page`, `heading`, `start`, `end` (characters), `metadata`, `id`, and
            `also_in`: where else the same text was found, as dicts with `source`, `chunk`, `page`, `metadata`, `id`.
            Empty if no document was added, or none is about it.

        Raises:
            BadRequest, ResultTimeout (NoWorkerAlive), TurnFailed, BackendError.
        """
        wanted = KnowledgeQuery.of(query, limit, filters, sources, scope, min_score, timeout)
        return await self.portal.acall(self.backend.knowledge.search(self, wanted))

    search_knowledge = blocking(asearch_knowledge)

    async def alist_knowledge(self: BackedSession, *, scope: str | None = None) -> list[dict[str, Any]]:
        """The documents of a scope (by default the one that `add_knowledge` uses), by name; needs no worker.

        Returns:
            Dicts with `source`, `kind`, `bytes`, `pages`, `chunks`, `collection`, `metadata`, `added_ms`.
        """
        return await self.portal.acall(self.backend.knowledge.list_sources(self, scope))

    list_knowledge = blocking(alist_knowledge)

    # --- remove -----------------------------------------------------------------------------------------

    async def adelete_knowledge(self: BackedSession, source: str, *, scope: str | None = None) -> int:
        """Remove a document by its name; returns the number of its chunks, 0 if there is no such document."""
        return await self.portal.acall(self.backend.knowledge.remove(self, source_name(source), scope))

    delete_knowledge = blocking(adelete_knowledge)

    async def aclear_knowledge(self: BackedSession, *, scope: str | None = None) -> int:
        """Remove all documents of a scope; returns the number of their chunks."""
        return await self.portal.acall(self.backend.knowledge.clear(self, scope))

    clear_knowledge = blocking(aclear_knowledge)


def _sources(source: object, options: DocumentOptions) -> list[object] | None:
    """The documents of a list or a folder; None if `source` is one document.

    Raises:
        BadRequest: there is an option that fits one document only.
    """
    if not isinstance(source, list | tuple) and not (isinstance(source, Path) and source.is_dir()):
        return None
    for option in ("name", "idempotency_key"):
        if options.get(option) is not None:
            raise BadRequest(
                f"{option}= is for one document: add those of a list or a folder without it, or one by one"
            )
    return list(several([source] if isinstance(source, Path) else source))


def _one(source: object, options: DocumentOptions) -> tuple[object, DocumentOptions]:
    """The source of one document of several, and its options."""
    single, name = one_of_several(source)
    return single, options if name is None else {**options, "name": name}


async def _add(
    session: _Adding, source: object, options: DocumentOptions, report: ProgressCallback | None
) -> dict[str, Any]:
    """Add one document and wait for its receipt."""
    operation = await session.asubmit_knowledge(source, **options)
    if report is not None:
        async for progress in operation.aprogress():
            report(progress)
    receipt: dict[str, Any] = await operation.aresult(options.get("timeout"))
    return _warned(receipt)


def _add_blocking(
    session: _Adding, source: object, options: DocumentOptions, report: ProgressCallback | None
) -> dict[str, Any]:
    """Like `_add`, but calls `report` on the caller's thread, which a derived sync function would not."""
    operation = session.submit_knowledge(source, **options)
    if report is not None:
        for progress in operation.progress():
            report(progress)
    receipt: dict[str, Any] = operation.result(options.get("timeout"))
    return _warned(receipt)


async def _add_of_several(
    session: _Adding, source: object, report: ProgressCallback | None, options: DocumentOptions
) -> dict[str, Any]:
    """The receipt of one document of a list. An error becomes part of it, so that the others are still added."""
    if isinstance(source, FolderFile) and source.skipped:
        return source.receipt
    try:
        return await _add(session, *_one(source, options), report=report)
    except (SessionfleetError, OSError) as error:
        return _failure(source, error)


def _add_of_several_blocking(
    session: _Adding, source: object, report: ProgressCallback | None, options: DocumentOptions
) -> dict[str, Any]:
    """Like `_add_of_several`, but calls `report` on the caller's thread."""
    if isinstance(source, FolderFile) and source.skipped:
        return source.receipt
    try:
        return _add_blocking(session, *_one(source, options), report=report)
    except (SessionfleetError, OSError) as error:
        return _failure(source, error)


def _warned(receipt: dict[str, Any]) -> dict[str, Any]:
    """The receipt, after Python warnings on what of the document could not be read."""
    for problem in receipt.get("warnings") or ():
        warnings.warn(f"{receipt['source']!r}: {problem}", DocumentWarning, stacklevel=4)
    return receipt


def _failure(source: object, error: Exception) -> dict[str, Any]:
    name = source if isinstance(source, str) else getattr(source, "name", type(source).__name__)
    return {"source": str(name)[:200], "status": "failed", "error": str(error), "type": type(error).__name__}
