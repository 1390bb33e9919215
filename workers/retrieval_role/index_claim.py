"""Decides whether this process serves the queue `retrieval`, because an embedded index can have only one owner.

With QDRANT_URL, every worker with the role serves it. Without, the index is embedded, and the process that holds the
lock of its folder owns it. A worker with the role `all` that does not get the lock runs turns only, and takes the index
over when its owner is gone. The store has the id of the folder, so that two machines do not each keep half of the
knowledge.
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
    """This process's claim to the embedded index; with QDRANT_URL there is nothing to claim."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.home / "knowledge"
        self._wanted = settings.role != "turns"
        self.lock: IndexLock | None = None

    def start(self) -> None:
        """Claim the index, if the role includes retrieval.

        Raises:
            MissingExtra, IndexLocked: the role is `retrieval`, and this process cannot serve it.
        """
        if not self._wanted:
            return
        required = self._settings.role == RETRIEVAL
        if (missing := missing_for_retrieval()) is not None:
            if required:
                raise MissingExtra(f"{missing} is not installed, and the retrieval role needs it: {EXTRA_HINT}")
            _log.info("retrieval_not_served", why=f"{missing} is not installed", hint=EXTRA_HINT)
            self._wanted = False
        elif not self.take():
            if required:
                self.lock = claim(self._folder)  # raises IndexLocked with its owner
            _log.info("retrieval_elsewhere", hint="one process of a machine owns the embedded index; see QDRANT_URL")

    @property
    def waiting(self) -> bool:
        """Whether another process owns the index and this one is ready to take it over."""
        return self._wanted and not self._served

    @property
    def _served(self) -> bool:
        return self._wanted and (self._settings.qdrant_url is not None or self.lock is not None)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that this process serves now."""
        return tuple(name for name in self._settings.served if name != RETRIEVAL or self._served)

    def take(self) -> bool:
        """Try to get the index. Returns whether this process serves retrieval."""
        if self._settings.qdrant_url is None and self.lock is None:
            self.lock = try_claim(self._folder)
        return self._served

    async def check(self, store: Any) -> None:
        """Check that the claimed index is the one with the deployment's documents, if there are any.

        Raises:
            IndexLocked: they are in the index of another home.
        """
        if self.lock is not None:
            try:
                await self._confirm(store)
            except IndexLocked:
                self.release()
                raise

    async def take_over(self, store: Any, serve: Callable[[str], None], *, pause: float = 1.0) -> None:
        """Wait until the owner of the index is gone, then take it and call `serve`. Returns when settled."""
        while self.waiting:
            await asyncio.sleep(pause)
            lock = try_claim(self._folder)  # kept aside until it is known to be the right index
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
            known = (await store.get(INDEX)).decode()
            if known != own and not await self._any_documents(store):
                await store.set(INDEX, own)
                return
        if known != own:
            raise IndexLocked(
                f"the knowledge of this deployment is in the embedded index of another home ({known}), not in "
                f"{str(self._folder)!r} ({own}): serve retrieval there, or move it to a server: "
                "`sessionfleet knowledge export` there, then set QDRANT_URL for all workers and import"
            )

    async def _any_documents(self, store: Any) -> bool:
        async with store.pipeline(transaction=False) as pipe:
            for partition in range(self._settings.partitions):
                pipe.exists(lanes_key(partition_key(partition)))
            return any(await pipe.execute())

    def give_up(self) -> None:
        """Serve only turns from now on."""
        self._wanted = False
        self.release()

    def release(self) -> None:
        """Release the index for another process."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None
