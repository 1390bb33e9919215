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
from dataclasses import dataclass
from typing import Any, Final

import uuid_utils

from broker_config.telemetry import get_logger
from sessions.errors import BackendError, ResultTimeout
from sessions.protocol.direct_search import DirectSearch
from sessions.protocol.operation import OperationRequest
from sessions.store.catalog import Catalog
from sessions.store.keys import SessionKeys
from sessions.store.search_exchange import Answer, AnswerKind, SearchExchange

_PATIENCE: Final = 5.0
"""Seconds without a word from a process: as long as a lease, after which another worker takes a turn over."""
_LOOKS: Final = 5
"""How often the process is asked in that time."""
_SLACK: Final = 1.0  # the caller says that the time is over, not the process
_log = get_logger(__name__)


@dataclass(slots=True)
class _OpenSearch:
    """A search that a process has. `heard` is when the process last said that it works on it (monotonic)."""

    answer: asyncio.Future[bytes | None]
    heard: float


class DirectSearches:
    """Sends searches of this process. Used by clients, and by workers for their turns."""

    def __init__(self, exchange: SearchExchange, catalog: Catalog) -> None:
        self._exchange = exchange
        self._catalog = catalog
        self._open: dict[str, _OpenSearch] = {}

    async def result(self, lane: SessionKeys, request: OperationRequest, timeout: float) -> Any | None:
        """The result of a search; None if it was not answered, for whatever reason.

        Args:
            lane: of the session's, or user's, searches.
            timeout: seconds that the search may take. At most half of them pass without a word from a process.

        Raises:
            ResultTimeout: a process works on it still.
        """
        if not request.direct:
            return None
        try:
            return await self._result(lane, request, timeout)
        except BackendError as error:  # the lane says so, too, if it lasts
            _log.warning("search_not_sent", error=str(error))
            return None

    async def _result(self, lane: SessionKeys, request: OperationRequest, timeout: float) -> Any | None:
        processes = [worker.searches for worker in await self._catalog.workers() if worker.searches]
        if not processes:
            return None
        await self._exchange.listen_for_answers(self._receive)
        wanted = DirectSearch(session=lane.home.ref, operation=request.spec(), seconds=timeout + _SLACK)
        body = wanted.model_dump_json().encode()
        for process in random.sample(processes, len(processes)):
            search = uuid_utils.uuid4().hex
            self._open[search] = _OpenSearch(asyncio.get_running_loop().create_future(), time.monotonic())
            try:
                if await self._exchange.ask(process, search, body):
                    found = await self._answered(process, search, timeout)
                    return None if found is None else json.loads(found)
            finally:
                del self._open[search]
        return None

    async def _answered(self, process: str, search: str, timeout: float) -> bytes | None:
        """Wait for the answer. None: the process does not answer it, is silent, or is gone."""
        asked, found = self._open[search], self._open[search].answer
        until, patience = time.monotonic() + timeout, min(_PATIENCE, timeout / 2)
        while not found.done():
            now = time.monotonic()
            if now >= until:
                raise ResultTimeout(f"the search did not end within {timeout:g} s; a worker is working on it")
            if now >= asked.heard + patience:
                return None
            await asyncio.wait({found}, timeout=min(patience / _LOOKS, until - now))
            if not found.done() and not await self._exchange.ask(process, search, b""):
                return None
        return found.result()

    def _receive(self, answer: Answer) -> None:
        asked = self._open.get(answer.search)  # None: an answer that comes too late
        if asked is None or asked.answer.done():
            return
        asked.heard = time.monotonic()
        if answer.kind is not AnswerKind.WORKING:
            asked.answer.set_result(answer.result if answer.kind is AnswerKind.RESULT else None)
