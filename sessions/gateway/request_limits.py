"""Rates and open requests of each caller: counted in the store, renewed while open, given back at their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final, Protocol

import uuid_utils

from broker_config.settings import Settings
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.errors import BackendError, TooManyRequests
from sessions.gateway.principal import Principal
from sessions.store.keys import limit_key
from sessions.store.request_limits import RESERVATION, LimitStore

_RENEW: Final = RESERVATION / 3


class Limits(Protocol):
    """Limits what one credential may ask for."""

    def admit(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Count a request while it is open.

        Raises:
            TooManyRequests: the limit is reached; says when to try again.
        """
        ...


class NoLimits:
    """No limits: every request is admitted."""

    def admit(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Admit the request."""
        return nullcontext()


class StoreLimits:
    """The limits in the settings, and those of keys that have their own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, str] = {}
        self._ending: defaultdict[str, set[str]] = defaultdict(set)
        self._renewing: asyncio.Task[None] | None = None

    def admit(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Count a request while it is open. Without limits the store is not asked.

        Raises:
            TooManyRequests: the limit is reached; says which, and when to try again.
            StoreUnavailable: the store cannot be asked.
        """
        rate = self._settings.gateway_rate if principal.rate is None else principal.rate
        most = self._settings.gateway_concurrency if principal.concurrency is None else principal.concurrency
        if principal.id is None or not (rate or most):
            return nullcontext()
        return self._counted(limit_key(principal.tenant, principal.id), rate, most)

    @asynccontextmanager
    async def _counted(self, base: str, rate: int, most: int) -> AsyncIterator[None]:
        client = get_client(self._settings)
        request = str(uuid_utils.uuid4().hex)
        try:
            await client.portal.acall(self._admit(client, base, request, rate, most))
            yield
        finally:
            await client.portal.acall(self._end(client, base, request))

    async def _admit(self, client: FleetClient, base: str, request: str, rate: int, most: int) -> None:
        await client.open()
        self._open[request] = base  # before the reply, which may be lost: giving back what does not exist does no harm
        # A client's next request must not count its previous one, whose end is still being sent on another connection.
        ended = tuple(self._ending.get(base, ()))
        refused = await LimitStore(client.stores.scripts).admit(base, request, rate, most, ended=ended)
        if refused is None:
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.get_running_loop().create_task(self._renew(client))
            return
        del self._open[request]
        if refused.limit == "rate":
            raise TooManyRequests(
                f"more than {rate} requests per minute were sent with this credential; try again later",
                retry_after=refused.wait,
            )
        raise TooManyRequests(
            f"{most} requests or streams of this credential are open, which is the limit; end one, or try again later",
            retry_after=refused.wait,
        )

    async def _end(self, client: FleetClient, base: str, request: str) -> None:
        if self._open.pop(request, None) is not None:
            self._ending[base].add(request)
            LimitStore(client.stores.scripts).end(base, request).add_done_callback(lambda _: self._ended(base, request))

    def _ended(self, base: str, request: str) -> None:
        self._ending[base].discard(request)
        if not self._ending[base]:
            del self._ending[base]

    async def _renew(self, client: FleetClient) -> None:
        """Renew the open reservations, for as long as there are any."""
        while True:
            before = set(self._open)
            await asyncio.sleep(_RENEW)
            if not self._open:
                return
            by_caller: dict[str, list[str]] = defaultdict(list)
            for request in before & self._open.keys():
                by_caller[self._open[request]].append(request)
            limits = LimitStore(client.stores.scripts)
            renewals = [limits.renew(base, requests) for base, requests in by_caller.items()]
            with contextlib.suppress(BackendError):  # requests that are open then are served without being counted
                await asyncio.gather(*renewals)
