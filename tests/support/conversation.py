"""One session in this process: its turns are begun and committed on the real store, without a worker."""

from __future__ import annotations

import uuid

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.history import HistoryEntry
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.leases import Committed, Ending, LeaseStore
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.submission import Replacement, Submission
from sessions.store.turns import TurnStore


class Conversation:
    """A session, and what a client and a worker do with it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = async_store(settings)
        scripts = ScriptRunner(self.client)
        self.turns = TurnStore(scripts, self.client, settings)
        self.leases = LeaseStore(scripts, settings.model_copy(update={"lease": 120.0}), "w")
        self.branches = HistoryStore(scripts, KeyRing.of(settings))
        self.keys = SessionKeys.of("default", uuid.uuid4().hex, settings.partitions)

    async def begin(self, message: str = "hello", replaces: str | None = None) -> OpenTurn:
        """Submit a message, or one that takes the place of a turn, and begin its turn."""
        request = TurnRequest(message=message, agent="" if replaces else "A")
        replacement = Replacement(replaces, same_message=False, same_agent=True) if replaces else None
        submission = Submission(request, queue="turns", timeout=900.0, replacement=replacement)
        await self.turns.accept(self.keys, await self.turns.resolved(self.keys, submission))
        return await self.resume()

    async def resume(self) -> OpenTurn:
        """Begin the head of the mailbox; also after a crash, whose lease is over by now."""
        await self.client.delete(f"{self.keys.base}:lease")
        turn = await self.leases.acquire(self.keys, uuid.uuid4().hex, last_ok=True)
        assert isinstance(turn, OpenTurn)
        return turn

    async def commit(self, turn: OpenTurn, messages: bytes = b"[]", *, kept: int | None = None) -> Committed:
        """End a turn with an entry in the history."""
        entry = HistoryEntry(turn.part, "A", 1, 2, messages).dump()
        ending = Ending(TurnStatus.SUCCEEDED, b"{}", history_entry=entry, messages=2, window_kept=kept)
        return await self.leases.commit(self.keys, turn, ending, 1000, go_on=False, last_ok=True)

    async def chat(self, messages: bytes = b"[]") -> tuple[str, list[str]]:
        """One turn from begin to end: its part, and the turns that it saw."""
        turn = await self.begin()
        await self.commit(turn, messages)
        return turn.part, seen(turn)

    async def close(self) -> None:
        """Delete the session."""
        await self.turns.delete_session(self.keys)
        await self.client.aclose()


def seen(turn: OpenTurn) -> list[str]:
    """The past turns in a turn's window."""
    return [HistoryEntry.load(entry).turn for entry in turn.history]
