"""A session that is compacted, in this process: on a real store, without a worker."""

from __future__ import annotations

import json
from typing import Any

from sessions.protocol.compaction_requests import Compact, CompactHistory
from sessions.protocol.lanes import COMPACT
from sessions.protocol.turn import TurnStatus
from sessions.protocol.turn_limits import NO_LIMITS
from sessions.store.leases import Ending
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.summaries import SummaryStore
from sessions.store.wake_up import WakeUp
from tests.support.conversation import Conversation
from workers.engine import Engine
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal
from workers.lease.lease_clock import lease_time
from workers.turns.compaction import Compaction
from workers.turns.turn_input import input_of, request_of


class Talk(Conversation):
    """The session, and what its scripts say about summaries."""

    @property
    def scripts(self) -> ScriptRunner:
        return ScriptRunner(self.client)

    @property
    def summaries(self) -> SummaryStore:
        return SummaryStore(self.scripts, KeyRing.of(self.settings))

    @property
    def records(self) -> SessionRecords:
        return SessionRecords(self.scripts, self.client, KeyRing.of(self.settings))

    async def resume(self) -> OpenTurn:
        """As a worker does that has applied the effects before."""
        await self.asked()
        return await super().resume()

    async def asked(self) -> list[dict[str, Any]]:
        """What is in the outbox; afterwards it is empty."""
        outbox = f"{self.keys.base}:outbox"
        found = [json.loads(entry) for entry in await self.client.lrange(outbox, 0, -1)]
        await self.client.delete(outbox)
        return found

    async def chats(self, count: int) -> list[str]:
        return [(await self.chat())[0] for _ in range(count)]

    async def summarise(self, text: str, upto: int, by: str = "s1", *, complete: bool = True) -> bool:
        """Store a summary that continues the newest one."""
        before = await self.summaries.newest(self.keys)
        return await self.summaries.write(
            self.keys, before, by, text, upto, complete=complete, usage=b'{"requests": 1}'
        )

    async def compact(self, wanted: Compact) -> None:
        await self.records.update(self.keys, None, None, {}, compact=wanted)

    async def fields(self) -> dict[bytes, bytes]:
        """What the session's record says about summaries, besides the choice."""
        meta = await self.client.hgetall(self.keys.meta)
        return {name: value for name, value in meta.items() if name.startswith((b"summary", b"draft"))}


class LaneWorker:
    """Runs the turns that summarise the session's chunks, with this engine."""

    def __init__(self, talk: Talk, engine: Engine) -> None:
        self.talk = talk
        self.lane = talk.keys.lane(COMPACT)
        self.published: list[WakeUp] = []
        self.compaction = Compaction(talk.settings, talk.turns, talk.scripts, engine, self._publish)

    async def _publish(self, wake_up: WakeUp) -> bool:
        self.published.append(wake_up)
        return True

    async def apply(self) -> None:
        """Apply the effects in the session's outbox."""
        for effect in await self.talk.asked():
            await self.compaction.submit(self.talk.keys, CompactHistory.asked_by(effect))

    async def turn(self, *, kill: bool = False) -> bool:
        """Run the next turn of the lane; False if there is none.

        Args:
            kill: the worker dies after the turn has done everything, before the commit.
        """
        await self.talk.client.delete(f"{self.lane.base}:lease")
        begun = await self.talk.leases.acquire(self.lane, "n", last_ok=True)
        if not isinstance(begun, OpenTurn):
            return False
        held = HeldTurn(self.lane, begun, "n", lease_time() + max(60, self.talk.leases.seconds), self.talk.leases)
        request = request_of(held)
        await self.compaction.run(
            held,
            request,
            input_of(held, request, self.talk.settings.model or "offline", NO_LIMITS),
            LeasedJournal(self.talk.leases, held),
        )
        if not kill:
            ending = Ending(TurnStatus.SUCCEEDED, b"{}")
            await self.talk.leases.commit(self.lane, begun, ending, 1000, go_on=False, last_ok=True)
        return True

    async def all(self) -> int:
        """Run all turns of the lane; returns how many there were."""
        await self.apply()
        count = 0
        while await self.turn():
            count += 1
        return count
