"""The methods of `Session` about many sessions: lists, searches, and deletions of everything that belongs together."""

from __future__ import annotations

from builtins import list as list_
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, TypedDict, Unpack, cast

from broker_config.settings import Settings
from sessions.client.arguments.history_search import HistoryQuery
from sessions.client.arguments.sessions import SessionOrder, SessionQuery, aware_time
from sessions.client.arguments.usage import UsageQuery
from sessions.client.arguments.values import short_string
from sessions.client.backend import BackedSession, SessionPage
from sessions.client.transcript import FoundMessage
from sessions.protocol.transcript_requests import SpokenRole
from sessions.protocol.usage import UsageDimension, UsageRow


class Where(TypedDict, total=False):
    """Whose sessions a class method of `Session` is about; see the arguments of `Session`."""

    tenant: str | None
    settings: Settings | None
    agent_url: str | None
    headers: Mapping[str, str] | None
    timeout: float | None


class ManySessions:
    """The class methods of `Session`, each with an async form. They are about a user's sessions, or a tenant's."""

    @classmethod
    async def alist(
        cls: type[BackedSession],
        user_id: str | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: SessionOrder = "last_used",
        metadata: Mapping[str, Any] | None = None,
        active_since: datetime | None = None,
        unused_since: datetime | None = None,
        shared: bool = False,
        **where: Unpack[Where],
    ) -> SessionPage:
        """A page of the sessions of a user; without a user, of the tenant: for a trusted backend.

        Args:
            limit: the largest number, up to 1,000. cursor: `page.cursor` of the page before.
            order: the newest first, by `last_used` or `created`. A session that is used while the pages are read moves
                to the front of the list by last use; the list by creation misses none.
            metadata: only sessions whose metadata have these values; a list means any of them.
            active_since: only sessions that were used at this time or later. unused_since: only those that were not.
            shared: the sessions of other users that are shared with this user, instead of its own.
            where: `tenant` and `settings` of a fleet; or `agent_url`, `headers` and `timeout` of a gateway, as for
                `Session`.

        Raises:
            BadRequest: an argument cannot be used. BackendError, RemoteError: see `sessions.errors`.
        """
        query = SessionQuery.of(limit, cursor, order, metadata, active_since, unused_since, shared)
        any_of_them = opened(cls, user_id, **where)
        return await any_of_them.portal.acall(any_of_them.backend.listing.list(any_of_them, query))

    @classmethod
    def list(
        cls: type[BackedSession],
        user_id: str | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: SessionOrder = "last_used",
        metadata: Mapping[str, Any] | None = None,
        active_since: datetime | None = None,
        unused_since: datetime | None = None,
        shared: bool = False,
        **where: Unpack[Where],
    ) -> SessionPage:
        """A page of the sessions of a user, or of the tenant; see `alist`."""
        query = SessionQuery.of(limit, cursor, order, metadata, active_since, unused_since, shared)
        any_of_them = opened(cls, user_id, **where)
        return any_of_them.portal.call(any_of_them.backend.listing.list(any_of_them, query))

    @classmethod
    async def adelete_user(cls: type[BackedSession], user_id: str, **where: Unpack[Where]) -> dict[str, int]:
        """Delete everything of a user: sessions with everything in them, and the user's memories, state and documents.

        It may be repeated: what a call that broke off has deleted stays deleted. Open turns end without a result. The
        records of turns whose session had expired before are kept until SESSIONFLEET_RESULT_TTL after their end, if
        the session had left the lists.

        Args:
            where: as for `list`.

        Returns:
            How many sessions, keys, turns, open_turns, memories, files, documents and chunks were deleted.

        Raises:
            ListsIncomplete: an older deployment's sessions are still being added to the lists; nothing was deleted.
            ResultTimeout, NoWorkerAlive: documents could not be removed; what was deleted stays deleted.
        """
        any_of_them = opened(cls, short_string("user_id", user_id), **where)
        return await any_of_them.portal.acall(any_of_them.backend.deletion.delete_user(any_of_them))

    @classmethod
    def delete_user(cls: type[BackedSession], user_id: str, **where: Unpack[Where]) -> dict[str, int]:
        """Delete everything of a user; see `adelete_user`."""
        any_of_them = opened(cls, short_string("user_id", user_id), **where)
        return any_of_them.portal.call(any_of_them.backend.deletion.delete_user(any_of_them))

    @classmethod
    async def aprune(
        cls: type[BackedSession], unused_since: datetime, user_id: str | None = None, **where: Unpack[Where]
    ) -> dict[str, int]:
        """Delete the sessions of a user, or of the tenant, that were last used before a time.

        Those with an open turn or an active schedule are kept, and those that are used meanwhile.

        Args:
            unused_since: with a time zone. where: as for `list`.

        Returns, Raises:
            As `adelete_user`.
        """
        any_of_them = opened(cls, user_id, **where)
        work = any_of_them.backend.deletion.prune(any_of_them, aware_time("unused_since", unused_since))
        return await any_of_them.portal.acall(work)

    @classmethod
    def prune(
        cls: type[BackedSession], unused_since: datetime, user_id: str | None = None, **where: Unpack[Where]
    ) -> dict[str, int]:
        """Delete the sessions that were last used before a time; see `aprune`."""
        any_of_them = opened(cls, user_id, **where)
        work = any_of_them.backend.deletion.prune(any_of_them, aware_time("unused_since", unused_since))
        return any_of_them.portal.call(work)

    @classmethod
    async def asearch(
        cls: type[BackedSession],
        query: str,
        user_id: str | None = None,
        *,
        limit: int = 10,
        since: datetime | None = None,
        until: datetime | None = None,
        role: SpokenRole | None = None,
        **where: Unpack[Where],
    ) -> list_[FoundMessage]:
        """Find messages in all searchable sessions that a user owns, the best first; see `asearch_history`.

        Args:
            user_id: the user; may be left out with an agent_url whose credential says it.
            where: as for `alist`; `timeout` is for `agent_url` only.

        Raises:
            BadRequest: an argument cannot be used. ResultTimeout: no result in time (NoWorkerAlive: no worker serves
                retrieval). BackendError, RemoteError: see `sessions.errors`.
        """
        wanted = HistoryQuery.of(query, limit, since, until, role, where.get("timeout"))
        any_of_them = opened(cls, user_id, **where)
        return await any_of_them.portal.acall(any_of_them.backend.history_search.search_all(any_of_them, wanted))

    @classmethod
    def search(
        cls: type[BackedSession],
        query: str,
        user_id: str | None = None,
        *,
        limit: int = 10,
        since: datetime | None = None,
        until: datetime | None = None,
        role: SpokenRole | None = None,
        **where: Unpack[Where],
    ) -> list_[FoundMessage]:
        """Find messages in all searchable sessions that a user owns; see `asearch`."""
        wanted = HistoryQuery.of(query, limit, since, until, role, where.get("timeout"))
        any_of_them = opened(cls, user_id, **where)
        return any_of_them.portal.call(any_of_them.backend.history_search.search_all(any_of_them, wanted))

    @classmethod
    async def ausage(
        cls: type[BackedSession],
        user_id: str | None = None,
        *,
        since: date | None = None,
        until: date | None = None,
        by: Sequence[UsageDimension] = ("day",),
        **where: Unpack[Where],
    ) -> list_[UsageRow]:
        """What a user used; without a user, what the tenant used: requests to models, tokens, tool calls and cost.

        A turn is counted when it ends, for the day on which it began, whether or not it succeeded.

        Args:
            since: the first day (UTC), by default the last one. until: the last day, included, by default today. At
                most 400 days; those of more than SESSIONFLEET_USAGE_DAYS ago are gone.
            by: what to keep apart: any of "day", "user" and "model"; nothing for one row.
            where: as for `alist`.

        Raises:
            BadRequest: an argument cannot be used. BackendError, RemoteError: see `sessions.errors`.
        """
        query = UsageQuery.of(since, until, by)
        any_of_them = opened(cls, user_id, **where)
        return await any_of_them.portal.acall(any_of_them.backend.usage.rows(any_of_them, query))

    @classmethod
    def usage(
        cls: type[BackedSession],
        user_id: str | None = None,
        *,
        since: date | None = None,
        until: date | None = None,
        by: Sequence[UsageDimension] = ("day",),
        **where: Unpack[Where],
    ) -> list_[UsageRow]:
        """What a user used, or the tenant; see `ausage`."""
        query = UsageQuery.of(since, until, by)
        any_of_them = opened(cls, user_id, **where)
        return any_of_them.portal.call(any_of_them.backend.usage.rows(any_of_them, query))


def opened(
    kind: type[BackedSession], user_id: str | None, session_id: str | None = None, **where: Unpack[Where]
) -> BackedSession:
    """A session of that user, or any: it says which back end, tenant and user a call is for."""
    return cast(Callable[..., BackedSession], kind)(session_id, user_id, **where)
