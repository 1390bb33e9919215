"""A turn takes the place of others, and single turns are deleted: by the scripts, on each kind of server."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from sessions.errors import SessionOwnerError, TurnNotFound
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.history import HistoryEntry
from sessions.store.history_store import HistoryStore
from sessions.store.leases import Ending
from sessions.store.resealing import Resealing
from sessions.store.sealing import KeyRing
from sessions.store.submission import Replacement, Submission
from sessions.store.transitions.records import Forgotten, delete_turn, update_session
from tests.scripts.test_scripts import OLD, PLACES, Store, settings_for

NEW = f"new:{base64.b64encode(bytes(32)).decode()}"


class Talk(Store):
    """A session with a history, as clients and workers change it."""

    @property
    def history(self) -> HistoryStore:
        return HistoryStore(self.scripts, KeyRing.of(self.settings))

    async def say(self, message: str, replaces: str | None = None) -> str:
        """Accept a turn and commit it."""
        part = await self.send(message, replaces)
        await self.end(message)
        return part

    async def send(self, message: str, replaces: str | None = None) -> str:
        submission = Submission(TurnRequest(message=message, agent="A"), queue="turns", timeout=900.0)
        if replaces is not None:
            submission = replace(submission, replacement=Replacement(replaces))
        return (await self.turns.accept(self.keys, await self.turns.resolved(self.keys, submission))).part

    async def end(self, message: str, times: int = 1) -> TurnStatus:
        """Run the head of the mailbox; with several times, as if replies had been lost."""
        begun = await self.begin(message)
        entry = HistoryEntry(begun.part, "A", 1, 2, json.dumps([message]).encode()).dump()
        ending = Ending(TurnStatus.SUCCEEDED, result=b"{}", history_entry=entry, messages=2)
        for _ in range(times):
            done = await self.leases.commit(self.keys, begun, ending, 5, go_on=False, last_ok=True)
        return done.status

    async def said(self, branch: str | None = None) -> list[str]:
        entries = await self.history.entries(self.keys, branch, 0, 100)
        return [json.loads(entry.messages)[0] for entry in entries]

    async def messages(self) -> int:
        return int(await self.client.hget(self.keys.meta, "messages") or 0)


@pytest.fixture(params=PLACES)
async def talk(request: pytest.FixtureRequest) -> AsyncIterator[Talk]:
    made = Talk(settings_for(request))
    yield made
    await made.turns.delete_session(made.keys)
    assert [key for key in await made.left() if ":op:" not in key] == []
    await made.client.aclose()


async def test_each_script_may_be_sent_again(talk: Talk) -> None:
    """The commit cuts once, and a deletion counts once, whatever became of the first reply."""
    parts = [await talk.say(message) for message in ("a", "b", "c")]
    await talk.send("B", parts[1])
    assert await talk.end("B", times=3) is TurnStatus.SUCCEEDED
    assert await talk.said() == ["a", "B"]
    assert await talk.said(parts[1]) == ["a", "b", "c"]
    assert [branch.turns for branch in await talk.history.listed(talk.keys)] == [2]
    assert await talk.messages() == 4
    found = await talk.history.find(talk.keys, parts[0])
    named = {"list": found.list, "at": found.at, "version": found.version, "length": found.length}
    named |= {"positions": "", "segment": b""}
    for _ in range(2):
        reply = await talk.run(delete_turn, turn=parts[0], user=None, operation="once", messages=2, **named)
        assert isinstance(reply, Forgotten)
        assert (reply.keys > 0, reply.messages) == (True, 2)
    assert await talk.said() == ["B"]
    assert await talk.said(parts[1]) == ["b", "c"]
    assert await talk.messages() == 2


async def test_a_turn_without_messages_is_deleted(talk: Talk) -> None:
    """Lua writes the negative of nothing as -0, which is no integer to Redis 7."""
    part = await talk.say("a")
    found = await talk.history.find(talk.keys, part)
    named = {"list": found.list, "at": found.at, "version": found.version, "length": found.length}
    named |= {"positions": "", "segment": b""}
    reply = await talk.run(delete_turn, turn=part, user=None, operation="once", messages=0, **named)
    assert isinstance(reply, Forgotten)
    assert await talk.said() == []


async def test_a_place_that_was_looked_up_too_early_is_looked_up_again(talk: Talk) -> None:
    """Positions have changed between the look-up and the script that uses them."""
    parts = [await talk.say(message) for message in ("a", "b", "c")]
    submission = Submission(TurnRequest(message="C", agent="A"), queue="turns", timeout=900.0)
    early = await talk.turns.resolved(talk.keys, replace(submission, replacement=Replacement(parts[2])))
    gone = await talk.turns.resolved(talk.keys, replace(submission, replacement=Replacement(parts[0]), part="0" * 32))
    await talk.history.delete(talk.keys, parts[0], None)
    await talk.turns.accept(talk.keys, early)
    await talk.end("C")
    assert await talk.said() == ["b", "C"]
    with pytest.raises(TurnNotFound):
        await talk.turns.accept(talk.keys, gone)


async def test_a_history_that_changed_by_other_hands_is_not_cut(talk: Talk) -> None:
    """No transition of ours does this; a restored backup or an older worker might."""
    parts = [await talk.say(message) for message in ("a", "b")]
    part = await talk.send("B", parts[1])
    begun = await talk.begin("n")
    await talk.client.rpush(talk.keys.history, await talk.client.lindex(talk.keys.history, 0))
    entry = HistoryEntry(part, "A", 1, 2, b'["B"]').dump()
    ending = Ending(TurnStatus.SUCCEEDED, result=b"{}", history_entry=entry, messages=2)
    done = await talk.leases.commit(talk.keys, begun, ending, 5, go_on=False, last_ok=True)
    assert done.status is TurnStatus.FAILED
    record = await talk.turns.read(talk.keys, part)
    assert record.error is not None
    assert (record.error.type, record.result) == ("HistoryChanged", None)
    assert await talk.said() == ["a", "b", "a"]
    assert await talk.history.listed(talk.keys) == []


async def test_many_turns_leave_at_once(talk: Talk) -> None:
    """More than the server's Lua can hand to one command."""
    first = await talk.say("a")
    entry = HistoryEntry("0" * 32, "A", 1, 1, b'["x"]').dump()
    sealed = KeyRing.of(talk.settings).seal(talk.keys.history, "", entry)
    for _ in range(10):
        await talk.client.rpush(talk.keys.history, *[sealed] * 1000)
    await talk.client.hincrby(talk.keys.meta, "messages", 10_000)
    await talk.send("A", first)
    assert await talk.end("A") is TurnStatus.SUCCEEDED
    assert (await talk.said(), await talk.messages()) == (["A"], 2)
    assert await talk.history.length(talk.keys, first) == 10_001
    assert (await talk.said(first))[:2] == ["a", "x"]


async def test_only_those_who_may_write_delete(talk: Talk) -> None:
    """Another user changes nothing."""
    part = await talk.say("a")
    await talk.client.hset(talk.keys.meta, "owner", "ann")
    with pytest.raises(SessionOwnerError):
        await talk.history.delete(talk.keys, part, "bob")
    assert await talk.said() == ["a"]
    assert (await talk.history.delete(talk.keys, part, "ann"))["messages"] == 2


@pytest.mark.parametrize(("by_model", "stays"), [(True, False), (False, True)])
async def test_a_title_from_a_model_goes_with_the_first_message(talk: Talk, by_model: bool, stays: bool) -> None:
    """It says what was said; a title that somebody chose stays."""
    part = await talk.say("a")
    await talk.client.hset(talk.keys.meta, "titling", "asked")
    await talk.run(
        update_session,
        user=None,
        title=b"About a",
        by_model=by_model,
        about=None,
        auto=False,
        expected=b"",
        metadata=b"",
        searchable="",
        compact="",
        operation="",
    )
    assert await talk.client.hget(talk.keys.meta, "title") == b"About a"
    await talk.history.delete(talk.keys, part, None)
    assert (await talk.client.hget(talk.keys.meta, "title") is not None) is stays


@pytest.mark.parametrize("talk", ["sealed"], indirect=True)
async def test_what_left_the_history_is_encrypted_again(talk: Talk) -> None:
    """Afterwards the old key is not needed: neither for the history nor for a branch."""
    parts = [await talk.say(message) for message in ("a", "b")]
    await talk.say("B", parts[1])
    both, new = (
        KeyRing.of(talk.settings.model_copy(update={"encryption_keys": SecretStr(each)}))
        for each in (f"{NEW},{OLD}", NEW)
    )
    done = await Resealing(talk.scripts, talk.client, both, talk.settings.partitions).run(talk.keys)
    assert (done.values > 3, done.closed) == (True, {})
    entries = await HistoryStore(talk.scripts, new).entries(talk.keys, parts[1], 0, 9)
    assert [json.loads(entry.messages) for entry in entries] == [["a"], ["b"]]
