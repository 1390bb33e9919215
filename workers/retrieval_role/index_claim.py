"""Whether this process serves the queue `retrieval`: the embedded index has one owner on its machine.

With QDRANT_URL every worker of the role serves. Without it the index is embedded, and belongs to the one process that
holds the lock of its folder; a worker of role `all` that does not get it runs turns, and takes over when the owner is
gone. The folder's id is noted in the store, so that two machines do not keep one half of the knowledge each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from broker_config.settings import RETRIEVAL, Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError, IndexLocked, MissingExtra
from sessions.fleet.process import missing_for_retrieval
from sessions.store.keys import INDEX, lanes_key, partition_key
from sessions.store.scripts import translated
from workers.retrieval.index.ownership import IndexLock, claim, home_id, try_claim

_log = get_logger(__name__)
EXTRA_HINT: Final = "run `pip install 'sessionfleet[worker,documents]'`"


class IndexClaim:
    """This process's claim to the embedded index, or its right to use the one on a server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.home / "knowledge"
        self._wanted = settings.role != "turns"
        self.lock: IndexLock | None = None

    def start(self) -> None:
        """Claim the index, if the role wants it.

        Raises:
            MissingExtra, IndexLocked: the role is `retrieval`, and this process cannot serve it.
        """
        if not self._wanted:
            return
        alone = self._settings.role == RETRIEVAL
        if (missing := missing_for_retrieval()) is not None:
            if alone:
                raise MissingExtra(f"{missing} is not installed, and the retrieval role needs it: {EXTRA_HINT}")
            _log.info("retrieval_not_served", why=f"{missing} is not installed", hint=EXTRA_HINT)
            self._wanted = False
        elif not self.take():
            if alone:
                self.lock = claim(self._folder)  # says whose it is
            _log.info("retrieval_elsewhere", hint="one process of a machine owns the embedded index; see QDRANT_URL")

    @property
    def waiting(self) -> bool:
        """Whether the index is another process's now, and this one would take it over."""
        return self._wanted and not self._served

    @property
    def _served(self) -> bool:
        return self._wanted and (self._settings.qdrant_url is not None or self.lock is not None)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that this process serves now."""
        return tuple(name for name in self._settings.served if name != RETRIEVAL or self._served)

    def take(self) -> bool:
        """Try to get the index; whether it is ours."""
        if self._settings.qdrant_url is None and self.lock is None:
            self.lock = try_claim(self._folder)
        return self._served

    async def check(self, store: Any) -> None:
        """Hold this machine's index against the one that has the deployment's documents, if there are any.

        Raises:
            IndexLocked: that one is elsewhere.
        """
        if self.lock is not None:
            try:
                await self._confirm(store)
            except IndexLocked:
                self.release()
                raise

    async def take_over(self, store: Any, serve: Callable[[str], None], *, pause: float = 1.0) -> None:
        """Wait until the owner of the index is gone, and own it then; `serve` is told. Returns when that is settled."""
        while self.waiting:
            await asyncio.sleep(pause)
            lock = try_claim(self._folder)  # not ours to serve before it is known for the right one
            if lock is None:
                continue
            try:
                await self._confirm(store)
            except IndexLocked as error:
                lock.release()
                self.give_up()
                _log.warning("retrieval_not_served", error=str(error))
            except BackendError as error:
                lock.release()
                _log.warning("index_not_taken_over", error=str(error))
            else:
                self.lock = lock
                serve(RETRIEVAL)
                _log.info("retrieval_taken_over")

    async def _confirm(self, store: Any) -> None:
        own = home_id(self._folder)
        with translated():
            await store.set(INDEX, own, nx=True)
            first = (await store.get(INDEX)).decode()
            if first != own and not await self._any_documents(store):
                await store.set(INDEX, own)
                return
        if first != own:
            raise IndexLocked(
                f"the knowledge of this deployment is in the embedded index of another home ({first}), not in "
                f"{str(self._folder)!r} ({own}): serve retrieval there, or move it to a server: "
                "`sessionfleet knowledge export` there, then set QDRANT_URL for all workers and import"
            )

    async def _any_documents(self, store: Any) -> bool:
        async with store.pipeline(transaction=False) as pipe:
            for partition in range(self._settings.partitions):
                pipe.exists(lanes_key(partition_key(partition)))
            return any(await pipe.execute())

    def give_up(self) -> None:
        """Serve turns only, from now on."""
        self._wanted = False
        self.release()

    def release(self) -> None:
        """Let another process have the index."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None
