"""Searches that are answered without a turn: sent to a running process of the retrieval role, which sends the result.

Nothing of such a search is recorded, so it may be lost with the process. If it stays unanswered, its caller has it done
by a turn of the lane `~search` (`sessions.client.operations`). The process leaves to the lane what it cannot do now:
what fails, and what comes while it stops or has too much to do. So all errors are those of the lane.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any, Final

import uuid_utils

from broker_config.telemetry import get_logger
from sessions.errors import BackendError
from sessions.protocol.direct_search import DirectSearch
from sessions.protocol.operation import OperationRequest
from sessions.store.catalog import Catalog
from sessions.store.keys import SessionKeys
from sessions.store.search_exchange import SearchExchange

_PATIENCE: Final = 5.0
"""Seconds to wait for a process that is there: as long as a lease, after which another worker takes a turn over."""
_LOOK: Final = 1.0
_log = get_logger(__name__)


class DirectSearches:
    """Sends searches of this process. Used by clients, and by workers for their turns."""

    def __init__(self, exchange: SearchExchange, catalog: Catalog) -> None:
        self._exchange = exchange
        self._catalog = catalog
        self._open: dict[str, asyncio.Future[bytes | None]] = {}

    async def result(self, lane: SessionKeys, request: OperationRequest, timeout: float) -> Any | None:
        """The result of a search; None if it was not answered, for whatever reason.

        Args:
            lane: of the session's, or user's, searches.
            timeout: seconds that the search may take. At most half of them pass here.
        """
        if not request.direct:
            return None
        try:
            return await self._result(lane, request, min(_PATIENCE, timeout / 2))
        except BackendError as error:  # the lane says so, too, if it lasts
            _log.warning("search_not_sent", error=str(error))
            return None

    async def _result(self, lane: SessionKeys, request: OperationRequest, patience: float) -> Any | None:
        processes = [worker.searches for worker in await self._catalog.workers() if worker.searches]
        if not processes:
            return None
        await self._exchange.listen_for_answers(self._receive, self._give_up)
        wanted = DirectSearch(session=lane.home.ref, operation=request.spec(), seconds=patience)
        body = wanted.model_dump_json().encode()
        for process in random.sample(processes, len(processes)):
            search = uuid_utils.uuid4().hex
            self._open[search] = answer = asyncio.get_running_loop().create_future()
            try:
                if await self._exchange.ask(process, search, body):
                    found = await self._answered(process, answer, time.monotonic() + patience)
                    return None if found is None else json.loads(found)
            finally:
                del self._open[search]
        return None

    async def _answered(self, process: str, answer: asyncio.Future[bytes | None], until: float) -> bytes | None:
        """Wait for the answer. None: the process sent none, died, or takes too long."""
        while not answer.done():
            left = until - time.monotonic()
            if left <= 0:
                return None
            await asyncio.wait({answer}, timeout=min(_LOOK, left))
            if not answer.done() and not await self._exchange.listens(process):
                return None
        return answer.result()

    def _receive(self, search: str, result: bytes | None) -> None:
        answer = self._open.get(search)  # None: an answer that comes too late
        if answer is not None and not answer.done():
            answer.set_result(result)

    def _give_up(self) -> None:
        """The connection was broken: an answer may have been lost."""
        for search in self._open:
            self._receive(search, None)
