"""Random conversations in which turns are sent, regenerated, edited, deleted and fail, next to a list of what is said.

The store runs for real; there are no workers, because what matters is what the scripts write and what a turn is shown.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import SessionBusy, TurnNotFound
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.history import HistoryEntry
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.leases import Ending, LeaseStore
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.submission import Replacement, Submission
from sessions.store.turns import TurnStore
from tests.support.servers import Server

KEY = "k:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@dataclass
class Said:
    """A committed turn, as a person would write it down."""

    part: str
    message: str
    count: int


@dataclass
class Sent:
    """An open turn: `of` is the turn that it replaces; `strict` if it named none."""

    part: str
    message: str
    of: str | None = None
    strict: bool = False
    begun: OpenTurn | None = None
    seen: int = 0
    window: list[Said] = field(default_factory=list)


@dataclass
class Transcript:
    """The model: the history, and for each branch the history as it was, by the id of the first turn that left it."""

    history: list[Said] = field(default_factory=list)
    branches: dict[str, list[Said]] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    line: list[Sent] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    window_at: int = 0

    def window(self, upto: int, limit: int) -> list[Said]:
        """What a turn sees that begins now: the window stands still, then moves by half of the limit."""
        start = self.window_at if self.window_at < upto else 0
        if upto - start > limit:
            start = upto - limit // 2
        if upto:
            self.window_at = start
        return self.history[start:upto]

    def position(self, part: str | None) -> int | None:
        return next((i for i, said in enumerate(self.history) if said.part == part), None)

    def cut(self, at: int) -> None:
        self.history = self.history[:at]
        self.window_at = self.window_at if self.window_at <= at else 0

    def forget(self, part: str) -> None:
        if (at := self.position(part)) is not None and at < self.window_at:
            self.window_at -= 1
        self.history = [said for said in self.history if said.part != part]
        for branch, path in self.branches.items():
            own = path[len(path) - self.left[branch] :]
            self.left[branch] -= any(said.part == part for said in own)
            self.branches[branch] = [said for said in path if said.part != part]
        for branch in [branch for branch, left in self.left.items() if not left]:
            del self.left[branch], self.branches[branch]


class Conversation:
    """Runs the operations on the store and on the model, and compares them."""

    def __init__(self, store_settings: Settings) -> None:
        self.settings = store_settings
        self.client = async_store(store_settings)
        scripts, keyring = ScriptRunner(self.client), KeyRing.of(store_settings)
        self.turns = TurnStore(scripts, self.client, store_settings)
        self.leases = LeaseStore(scripts, store_settings, "w")
        self.branches = HistoryStore(scripts, keyring)
        self.keys = SessionKeys.of("default", uuid.uuid4().hex, store_settings.partitions)
        self.model = Transcript()
        self.numbers = 0

    async def run(self, steps: list[tuple[str, int, Any]]) -> None:
        try:
            for name, which, option in steps:
                await getattr(self, name)(which, option)
                await self.compare()
        finally:
            await self.turns.delete_session(self.keys)
            left = [key async for key in self.client.scan_iter(f"*{self.keys.session_id}*", count=1000)]
            assert [key for key in left if b":op:" not in key] == []  # replies of operations expire after a minute
            await self.client.aclose()

    # --- operations -------------------------------------------------------------------------------------

    async def send(self, _which: int, _option: int) -> None:
        self.numbers += 1
        request = TurnRequest(message=f"m{self.numbers}", agent="A")
        accepted = await self.turns.accept(self.keys, Submission(request, queue="turns", timeout=900.0))
        self._sent(Sent(accepted.part, request.message))

    async def regenerate(self, which: int, option: int) -> None:
        """The last turn, or any that there ever was; with its own message or another one."""
        self.numbers += 1
        strict, edits = option % 2 == 1 or not self.model.parts, option % 4 >= 2
        named = None if strict else self.model.parts[which % len(self.model.parts)]
        message = f"m{self.numbers}" if edits else ""
        submission = Submission(
            TurnRequest(message=message, agent=""),
            queue="turns",
            timeout=900.0,
            replacement=Replacement(named, same_message=not edits, same_agent=True),
        )
        at = len(self.model.history) - 1 if strict else self.model.position(named)
        if at is None or at < 0:
            with pytest.raises(TurnNotFound):
                await self.turns.accept(self.keys, await self.turns.resolved(self.keys, submission))
            return
        accepted = await self.turns.accept(self.keys, await self.turns.resolved(self.keys, submission))
        replaced = self.model.history[at]
        self._sent(Sent(accepted.part, message or replaced.message, replaced.part, strict))

    def _sent(self, sent: Sent) -> None:
        self.model.line.append(sent)
        self.model.parts.append(sent.part)

    async def begin(self, _which: int, _option: int) -> None:
        """A worker takes the lease; turns that can no longer replace anything fail first."""
        if not self.model.line or self.model.line[0].begun:
            return
        acquired = await self.leases.acquire(self.keys, uuid.uuid4().hex, last_ok=True)
        while self.model.line and not self._can_begin(self.model.line[0]):
            failed = self.model.line.pop(0)
            record = await self.turns.read(self.keys, failed.part)
            assert record.error is not None
            assert (record.status, record.error.type) == (TurnStatus.FAILED, "HistoryChanged")
        if not self.model.line:
            return
        head = self.model.line[0]
        assert isinstance(acquired, OpenTurn)
        at = self.model.position(head.of)
        head.begun, head.seen = acquired, len(self.model.history) if at is None else at
        head.window = self.model.window(head.seen, self.settings.history_window)
        self._sees(head, acquired)

    def _can_begin(self, sent: Sent) -> bool:
        at = self.model.position(sent.of)
        return sent.of is None or (at is not None and (not sent.strict or at == len(self.model.history) - 1))

    def _sees(self, sent: Sent, begun: OpenTurn) -> None:
        assert begun.part == sent.part
        assert json.loads(begun.request)["message"] == sent.message
        assert [HistoryEntry.load(raw).turn for raw in begun.history] == [said.part for said in sent.window]

    async def crash(self, _which: int, _option: int) -> None:
        """The next worker sees what the first one saw."""
        if self.model.line and self.model.line[0].begun:
            await self.client.delete(f"{self.keys.base}:lease")
            again = await self.leases.acquire(self.keys, uuid.uuid4().hex, last_ok=True)
            assert isinstance(again, OpenTurn)
            self._sees(self.model.line[0], again)
            self.model.line[0].begun = again

    async def finish(self, which: int, option: int) -> None:
        if not self.model.line or not self.model.line[0].begun:
            return
        head, succeeds, count = self.model.line.pop(0), option % 3 != 0, which % 3
        assert head.begun is not None
        entry = HistoryEntry(head.part, "A", 1, count, b"[]", "" if succeeds else "failed").dump()
        status, result = (TurnStatus.SUCCEEDED, b"{}") if succeeds else (TurnStatus.FAILED, b"")
        ending = Ending(status, result=result, history_entry=entry, messages=count)
        for _ in range(1 + option % 2):  # a retry after a lost reply changes nothing
            done = await self.leases.commit(self.keys, head.begun, ending, 5, go_on=False, last_ok=True)
            assert done.status is status
        at = self.model.position(head.of)
        if at is not None and not succeeds:
            return
        if at is not None:
            path = self.model.history
            self.model.cut(at)
            self.model.branches[path[at].part], self.model.left[path[at].part] = path, len(path) - at
        self.model.history.append(Said(head.part, head.message, count))

    async def delete(self, which: int, _option: int) -> None:
        if not self.model.parts:
            return
        part = self.model.parts[which % len(self.model.parts)]
        at, running = self.model.position(part), next((sent for sent in self.model.line if sent.begun), None)
        is_open = any(sent.part == part for sent in self.model.line)
        needed = at is not None and running is not None and (running.seen > at or running.of is not None)
        if is_open or needed:
            with pytest.raises(SessionBusy):
                await self.branches.delete(self.keys, part, None)
            return
        receipt = await self.branches.delete(self.keys, part, None)
        paths = (self.model.history, *self.model.branches.values())
        said = next((said for path in paths for said in path if said.part == part), None)
        assert receipt["messages"] == (said.count if said else 0)
        with pytest.raises(TurnNotFound):
            await self.turns.read(self.keys, part)
        self.model.forget(part)

    # --- comparison -------------------------------------------------------------------------------------

    async def compare(self) -> None:
        history = await self.branches.entries(self.keys, None, 0, -1)
        assert [entry.turn for entry in history] == [said.part for said in self.model.history]
        messages = int(await self.client.hget(self.keys.meta, "messages") or 0)
        assert messages == sum(said.count for said in self.model.history)
        listed = await self.branches.listed(self.keys)
        assert {branch.id if branch.id in self.model.left else "" for branch in listed} <= self.model.left.keys()
        assert {branch.id: branch.turns for branch in listed} == self.model.left
        for branch in listed:
            path = self.model.branches[branch.id]
            assert await self.branches.length(self.keys, branch.id) == len(path)
            entries = await self.branches.entries(self.keys, branch.id, 0, len(path))
            assert [entry.turn for entry in entries] == [said.part for said in path]
            assert branch.messages == sum(said.count for said in path[len(path) - branch.turns :])
            some = await self.branches.entries(self.keys, branch.id, 1, 2)
            assert [entry.turn for entry in some] == [said.part for said in path[1:3]]


OPERATIONS = ("send", "begin", "finish", "finish", "regenerate", "regenerate", "delete", "crash")
STEPS = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 40), st.integers(0, 11)), max_size=60)
ROUND = [("send", 0, 0), ("begin", 0, 0), ("finish", 1, 1)]


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
@settings(max_examples=60, deadline=None)
@given(rounds=st.integers(0, 5), steps=STEPS)
def test_the_history_is_what_was_said(
    server: Server, key: str | None, rounds: int, steps: list[tuple[str, int, Any]]
) -> None:
    """History, branches, counts, and what each turn is shown; and nothing is left of a deleted session."""
    store_settings = Settings(redis_url=server.url, encryption_keys=key, history_window=3, max_attempts=99)  # type: ignore[arg-type]
    asyncio.run(Conversation(store_settings).run(ROUND * rounds + steps))
