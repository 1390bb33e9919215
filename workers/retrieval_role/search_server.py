"""Answers the searches that other processes send directly to this one.

A search that fails, or cannot be done at once, is left to the lane, and its caller is told so. There it waits, is tried
again, or ends with an error that says why. So no error is sent from here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from structlog.contextvars import bind_contextvars

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError, ResultTooLarge
from sessions.protocol.direct_search import DirectSearch
from sessions.store.keys import SessionKeys
from sessions.store.search_exchange import AnswerKind, ReceivedSearch, SearchExchange
from workers.retrieval_role.runner import RetrievalRunner

_LONGEST_RESULT: Final = 1024 * 1024
"""Bytes. The store drops a subscriber for which too many bytes wait (8 MiB for a minute, or 32 MiB)."""
_LAST_SECONDS: Final = 5.0
_log = get_logger(__name__)


class SearchServer:
    """One per process that may serve the role; on the process's event loop.

    Args:
        serves: whether the process serves the queue `retrieval` now.

    Attributes:
        answered: the number of searches that were answered.
    """

    def __init__(
        self, settings: Settings, exchange: SearchExchange, runner: RetrievalRunner, serves: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._exchange = exchange
        self._runner = runner
        self._serves = serves
        self._stopping = False
        self._open: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # those, and answers on their way
        self.answered = 0

    async def start(self) -> None:
        """Receive searches, from now on.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        await self._exchange.listen_for_searches(self._receive)

    @property
    def address(self) -> str:
        """Where callers send searches to; empty if this process takes none now."""
        return self._exchange.address if self._takes() else ""

    @property
    def running(self) -> int:
        """The number of searches that run now."""
        return len(self._open)

    def stop_taking(self) -> None:
        """Leave new searches to the lane from now on, because the worker shuts down."""
        self._stopping = True

    async def close(self) -> None:
        """Wait until the running searches are answered. Those that take too long are answered by the lane."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_SECONDS)
        for task in self._tasks:
            task.cancel()

    def _takes(self) -> bool:
        return self._serves() and not self._stopping

    def _receive(self, search: ReceivedSearch) -> None:
        if search.id in self._open:  # its caller asks; or the client library sent it again, because the reply was lost
            self._start(self._say(search, AnswerKind.WORKING))
        elif not search.body:  # it has ended, and the answer was lost; or it cannot be decrypted
            self._start(self._say(search, AnswerKind.LEFT))
        elif not self._takes() or len(self._open) >= self._settings.concurrency:
            _log.info("search_left_to_lane", why="this worker is stopping, or has no free slot")
            self._start(self._say(search, AnswerKind.LEFT))
        else:
            self._open[search.id] = task = self._start(self._answer(search))
            task.add_done_callback(lambda _: self._open.pop(search.id))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, search: ReceivedSearch) -> None:
        result = await self._result(search)
        await self._say(search, AnswerKind.LEFT if result is None else AnswerKind.RESULT, result or b"")

    async def _say(self, search: ReceivedSearch, kind: AnswerKind, result: bytes = b"") -> None:
        try:
            await self._exchange.answer(search, kind, result)
        except BackendError as error:  # the caller does without
            _log.warning("search_answer_not_sent", error=str(error))

    async def _result(self, search: ReceivedSearch) -> bytes | None:
        """The result as JSON; None if there is none, whatever the reason. The lane decides what its end is."""
        started, kind = time.monotonic(), None
        try:
            wanted = DirectSearch.model_validate_json(search.body)
            kind = wanted.operation.kind
            session = SessionKeys.from_ref(wanted.session, self._settings.partitions)
            bind_contextvars(session=session.ref)  # of this search's task only
            async with asyncio.timeout(wanted.seconds):
                found = await self._runner.search(session, wanted.operation)
            result = json.dumps(found).encode()
            if len(result) > min(_LONGEST_RESULT, self._settings.result_limit_bytes):
                raise ResultTooLarge(f"the result has {len(result)} bytes")
        except Exception as error:  # noqa: BLE001 - the lane turns whatever it is into an outcome
            _log.info("search_left_to_lane", operation=kind, why=repr(error))
            return None
        self.answered += 1
        _log.info("search_answered", operation=kind, ms=round((time.monotonic() - started) * 1000))
        return result
