"""Admission: whether a fleet can run a request, checked before the store accepts it."""

from __future__ import annotations

import time
from typing import Final

from sessions.client.admission_checks import refuse_unknown, refuse_webhook, webhooks_of
from sessions.client.connection import FleetConnection
from sessions.errors import BadRequest, StoreFull, UnknownAgent, UnknownHooks, UnknownModel, UnknownTool
from sessions.protocol.agent import AgentConfig
from sessions.store.deployment import highest_pressure
from sessions.store.scripts import translated
from sessions.store.submission import Submission

_PRESSURE_SECONDS: Final = 1.0


class Admission:
    """Refuses requests that no running worker can serve, and new work for a store that is almost full."""

    def __init__(self, connection: FleetConnection) -> None:
        self._connection = connection
        self._pressure_checked = 0.0

    async def admit(self, submission: Submission) -> None:
        """Connect, and refuse a request that cannot run.

        Raises:
            BadRequest: no running worker knows its agent, tools, model or hooks, or would send its webhook.
            StoreFull: see `refuse_when_full`. StoreUnavailable.
        """
        await self._connection.open()
        for first, its_queue in submission.agents:
            for agent, queue in first.with_delegates(its_queue):
                await self.refuse_unknown(agent, queue)
        if submission.webhook:
            await self.refuse_webhook(submission.webhook, submission.queue)
        await self.refuse_when_full()

    async def refuse_when_full(self) -> None:
        """Refuse new turns before the store reaches maxmemory, so that accepted turns have room to end.

        Raises:
            StoreFull: it uses more than SESSIONFLEET_MEMORY_HIGH_WATER of its maxmemory.
        """
        if time.monotonic() - self._pressure_checked < _PRESSURE_SECONDS:
            return
        self._pressure_checked = time.monotonic()  # before the reply, so that concurrent callers ask once
        try:
            with translated():
                share = await highest_pressure(self._connection.stores.redis)
            if share >= self._connection.settings.memory_high_water:
                raise StoreFull(f"the store uses {share:.0%} of its maxmemory. {StoreFull.__doc__}")
        except BaseException:
            self._pressure_checked = 0.0
            raise

    async def refuse_file(self, size: int) -> None:
        """Refuse a file, of this many bytes, before anything of it is stored, if the store would be too full with it.

        Raises:
            StoreFull: the message says how full it would be.
        """
        with translated():
            share = await highest_pressure(self._connection.stores.redis, more=size)
        if share >= self._connection.settings.memory_high_water:
            raise StoreFull(
                f"with a file of {size:,} bytes the store would use {share:.0%} of its maxmemory. {StoreFull.__doc__}"
            )

    async def refuse_unknown(self, agent: AgentConfig, queue: str) -> None:
        """Refuse an agent that no running worker of the queue can run. With none running, nothing is refused.

        Raises:
            UnknownTool, UnknownAgent, UnknownModel, UnknownHooks: the message lists what the workers know.
        """
        if not (agent.tools or agent.model or agent.registered or agent.hooks):
            return
        for fresh in (False, True):
            serving = [w for w in await self._connection.workers(fresh=fresh) if queue in w.queues]
            if not serving:
                return  # a worker that starts later fails the turn if it does not know the agent either
            try:
                refuse_unknown(agent, serving, queue)
            except (UnknownTool, UnknownAgent, UnknownModel, UnknownHooks):
                if fresh:
                    raise
            else:
                return

    async def refuse_webhook(self, url: str, queue: str) -> None:
        """Refuse a webhook that no worker of the queue would send. With none running, our own settings decide.

        Raises:
            BadRequest: the message says what to set.
        """
        for fresh in (False, True):
            offers = [w.webhooks for w in await self._connection.workers(fresh=fresh) if queue in w.queues]
            try:
                refuse_webhook(url, offers or [webhooks_of(self._connection.settings)], queue)
            except BadRequest:
                if fresh:
                    raise
            else:
                return
