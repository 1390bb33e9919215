"""Summaries of what has left the window: what the scripts ask for, store, give to turns, and drop."""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from pydantic import SecretStr

from sessions.store.adapter_store import AdapterStore, HistoryChange, Reader
from sessions.store.history import HistoryEntry
from sessions.store.resealing import Resealing
from sessions.store.sealing import KeyRing
from sessions.store.summaries import SummarySoFar
from sessions.store.transitions.records import clear_history
from tests.scripts.test_scripts import OLD, PLACES, settings_for
from tests.support.compacting import Talk
from tests.support.conversation import seen

NEW = f"new:{base64.b64encode(bytes(32)).decode()}"
WINDOW = 6
STEPS = (*("chat",) * 10, *("begin", "store") * 4, "delete", "replace", "drop", "off")


@pytest.fixture(params=PLACES)
async def talk(request: pytest.FixtureRequest) -> AsyncIterator[Talk]:
    """Its window moves at the eighth turn to position 4, and then every four turns."""
    conversation = Talk(
        settings_for(request).model_copy(update={"history_window": WINDOW, "compact": "auto", "max_attempts": 99})
    )
    yield conversation
    await conversation.close()


async def test_a_summary_is_asked_for_when_the_window_moves(talk: Talk) -> None:
    """When the turn begins that has the new window, or with the commit that narrows it; once for each move."""
    await talk.chats(7)
    assert await talk.asked() == []
    turn = await talk.begin()
    [asked] = await talk.asked()
    assert (asked["kind"], asked["to"]) == ("compact", 4)
    await talk.commit(turn)
    await talk.chats(3)
    assert await talk.asked() == [], "the window stands still"
    turn = await talk.begin()
    await talk.asked()
    await talk.commit(turn, kept=1)
    [narrowed] = await talk.asked()
    assert (narrowed["to"], narrowed["chain"]) == (10, asked["chain"])


async def test_one_that_is_missing_is_asked_for_again_after_ten_minutes(talk: Talk) -> None:
    """It failed, or its budget was used up. Once it is there, nobody asks."""
    await talk.chats(8)
    await talk.asked()
    await talk.client.hset(talk.keys.meta, "summary_asked", 1)
    turn = await talk.begin()
    [again] = await talk.asked()
    assert (again["to"], again["at"] != "1") == (4, True)
    await talk.commit(turn)
    assert await talk.summarise("s", 4)
    await talk.client.hset(talk.keys.meta, "summary_asked", 1)
    await talk.begin()
    assert await talk.asked() == []


async def test_a_turn_has_the_complete_summary_from_its_beginning(talk: Talk) -> None:
    """Not a draft, and no other one after a crash. Its record keeps it no longer than the turn is open."""
    parts = await talk.chats(8)
    assert await talk.summarise("half of it", 2, "s1", complete=False)
    turn = await talk.begin()
    assert turn.summary == ""
    await talk.commit(turn)
    assert await talk.summarise("all of it", 4, "s2")
    turn = await talk.begin()
    assert (turn.summary, seen(turn)[0]) == ("all of it", parts[4])
    assert not [name for name in await talk.fields() if name.startswith(b"draft")]
    await talk.client.hset(talk.keys.meta, "summary_to", 6)
    assert await talk.summarise("more than it", 6, "s3")
    turn = await talk.resume()
    assert turn.summary == "all of it"
    await talk.commit(turn)
    assert not await talk.client.hexists(talk.keys.turn(turn.part), "summary")
    assert (await talk.begin()).summary == "more than it"


async def test_a_summary_is_stored_once_and_only_after_the_one_that_it_continues(talk: Talk) -> None:
    """Its usage counts once, as the session's."""
    await talk.chats(8)
    first = await talk.summaries.newest(talk.keys)
    assert (first.text, first.upto) == ("", 0)
    write = talk.summaries.write
    for _ in range(2):
        assert await write(talk.keys, first, "s1", "one", 2, complete=False, usage=b'{"requests": 1, "cost": 0.5}')
    assert not await write(talk.keys, first, "s2", "two", 2, complete=False, usage=b'{"requests": 1}')
    newest = await talk.summaries.newest(talk.keys)
    assert (newest.text, newest.upto, newest.by) == ("one", 2, "s1")
    info = await talk.records.info(talk.keys)
    assert info is not None
    assert (info.requests, info.cost, info.compact) == (1, 0.5, "auto")


async def _delete(talk: Talk, parts: list[str], at: int) -> None:
    await talk.branches.delete(talk.keys, parts[at], None)


async def _replace(talk: Talk, parts: list[str], at: int) -> None:
    await talk.commit(await talk.begin(replaces=parts[at]))


async def _drop(talk: Talk, parts: list[str], at: int) -> None:
    store, reader = AdapterStore(talk.scripts, KeyRing.of(talk.settings)), Reader(talk.keys, None, "test")
    before = await store.read(reader)
    change = HistoryChange(before.revision, at=at, messages_cut=2 * (len(parts) - at))
    await store.write(reader, change, queue="turns", ttl=None, operation=uuid.uuid4().hex)


async def _clear(talk: Talk, parts: list[str], at: int) -> None:
    await talk.scripts.run(clear_history(talk.keys.pair, user=None, operation="clear"))


async def _by_an_earlier_version(talk: Talk, parts: list[str], at: int) -> None:
    await talk.client.hincrby(talk.keys.meta, "history_version", 1)


Change = Callable[[Talk, list[str], int], Awaitable[None]]


@pytest.mark.parametrize("change", [_delete, _replace, _drop, _clear, _by_an_earlier_version])
async def test_what_leaves_the_history_leaves_the_summary(talk: Talk, change: Change) -> None:
    """With the step that takes the turn out. A summary that a model is writing meanwhile is not stored."""
    parts = await talk.chats(8)
    assert await talk.summarise("the secret is 42", 4)
    begun = await talk.summaries.newest(talk.keys)
    await talk.asked()
    await change(talk, parts, 3)
    if change is not _by_an_earlier_version:
        assert b"summary" not in await talk.fields()
    assert not await talk.summaries.write(talk.keys, begun, "s2", "42 is it", 4, complete=True, usage=b"{}")
    turn = await talk.begin()
    assert turn.summary == ""
    assert b"summary" not in await talk.fields()


async def test_a_new_one_is_asked_for_when_a_turn_of_it_is_deleted(talk: Talk) -> None:
    """Of the turns that are left, and of no other chain."""
    parts = await talk.chats(8)
    [first] = await talk.asked()
    assert await talk.summarise("s", 4)
    await talk.branches.delete(talk.keys, parts[1], None)
    [again] = await talk.asked()
    assert again["to"] == 3
    assert again["chain"] != first["chain"]
    assert await talk.client.zscore(f"{talk.keys.partition}:wakeups", talk.keys.ref), "a worker will look"


@pytest.mark.parametrize("change", [_delete, _replace, _drop])
async def test_a_change_behind_what_it_covers_leaves_the_summary(talk: Talk, change: Change) -> None:
    """Also one that is being written."""
    parts = await talk.chats(8)
    assert await talk.summarise("one", 2, "s1", complete=False)
    begun = await talk.summaries.newest(talk.keys)
    await change(talk, parts, 4)
    assert await talk.summaries.write(talk.keys, begun, "s2", "two", 4, complete=True, usage=b"{}")
    assert (await talk.begin()).summary == "two"


async def test_a_turn_in_the_place_of_a_covered_one_does_not_see_the_summary(talk: Talk) -> None:
    """It has what came after the turn that is replaced. If the new turn fails, the next one has the summary again."""
    parts = await talk.chats(8)
    assert await talk.summarise("s", 4)
    turn = await talk.begin(replaces=parts[2])
    assert (turn.summary, seen(turn)) == ("", parts[:2])


async def test_off_deletes_the_summary_and_auto_asks_at_once(talk: Talk) -> None:
    """Nothing of it is left, and a model that writes one now writes it for nobody."""
    await talk.chats(8)
    assert await talk.summarise("s", 4)
    begun = await talk.summaries.newest(talk.keys)
    await talk.compact("off")
    assert await talk.fields() == {}
    assert not await talk.summaries.write(talk.keys, begun, "s2", "t", 4, complete=True, usage=b"{}")
    await talk.asked()
    await talk.chats(4)
    assert await talk.asked() == [], "the default does not turn it on again"
    await talk.compact("auto")
    assert [each["to"] for each in await talk.asked()] == [8]


async def test_a_fork_has_the_summary_of_what_it_has(talk: Talk) -> None:
    """If the covered turns are its first ones; so nothing is paid for again, and the rest is asked for at once."""
    parts = await talk.chats(8)
    assert await talk.summarise("s", 3)
    fork = Talk(talk.settings)
    counts = await talk.records.fork_fields(talk.keys, fork.keys, parts)
    await talk.records.create(
        fork.keys,
        [HistoryEntry(part, "A", 1, 2, b"[]").dump() for part in parts],
        user_id=None,
        queue="turns",
        ttl=None,
        messages=16,
        state={},
        agents={},
        origin="x",
        compact="auto",
        counts=counts,
    )
    assert [each["to"] for each in await fork.asked()] == [4]
    turn = await fork.begin()
    assert (turn.summary, seen(turn)) == ("s", parts[4:])
    assert await fork.summarise("t", 4)
    for other in (parts[:2], [*parts[:2], "another", *parts[3:]]):
        assert "summary" not in await talk.records.fork_fields(talk.keys, fork.keys, other)
    await fork.close()


@pytest.mark.parametrize("talk", ["standalone", "sealed"], indirect=True)
async def test_no_turn_ever_sees_a_summary_of_other_turns_than_those_before_it(talk: Talk) -> None:
    """Whatever happens in which order; some summaries are begun, and stored much later."""
    steps, number, seen_any = random.Random(5), 0, 0
    begun: list[tuple[SummarySoFar, int, str]] = []
    for _ in range(200):
        now = [entry.turn for entry in await talk.branches.entries(talk.keys, None, 0, -1)]
        match steps.choice(STEPS):
            case "chat":
                turn = await talk.begin()
                text = turn.summary
                assert text == "" or text.split(",") == now[: len(text.split(","))]
                seen_any += bool(text)
                await talk.commit(turn)
            case "begin":
                newest = await talk.summaries.newest(talk.keys)
                to = int(await talk.client.hget(talk.keys.meta, "summary_to") or 0)
                upto = min(to, newest.upto + steps.randint(1, 4))
                begun.append((newest, upto, ",".join(now[:upto])))
            case "store" if begun:
                number += 1
                before, upto, text = begun.pop(steps.randrange(max(0, len(begun) - 3), len(begun)))
                if text:
                    await talk.summaries.write(
                        talk.keys, before, f"s{number}", text, upto, complete=upto >= before.due, usage=b"{}"
                    )
            case "delete" if now:
                await _delete(talk, now, steps.randrange(len(now)))
            case "replace" if now:
                await _replace(talk, now, steps.randrange(max(0, len(now) - 4), len(now)))
            case "drop" if len(now) > 9 and steps.random() < 0.3:
                await _drop(talk, now, len(now) - 1)
            case "off" if steps.random() < 0.3:
                await talk.compact("off")
                await talk.compact("auto")
    assert seen_any > 10


@pytest.mark.parametrize("talk", ["standalone"], indirect=True)
async def test_nothing_is_asked_for_without_the_choice(talk: Talk) -> None:
    """Off by default."""
    settings = talk.settings.model_copy(update={"compact": "off"})
    plain = Talk(settings)
    await plain.chats(9)
    assert (await plain.asked(), await plain.fields()) == ([], {})
    await plain.close()


@pytest.mark.parametrize("talk", ["sealed"], indirect=True)
async def test_a_summary_is_encrypted_and_can_be_encrypted_again(talk: Talk) -> None:
    """In the session's record, as a draft, and in the record of a turn that sees it."""
    await talk.chats(8)
    assert await talk.summarise("otters", 4, "s1")
    assert await talk.summarise("and seals", 5, "s2", complete=False)
    turn = await talk.begin()
    stored = [*(await talk.fields()).values(), await talk.client.hget(talk.keys.turn(turn.part), "summary")]
    assert not [value for value in stored if b"otters" in value or b"seals" in value]
    both = KeyRing.of(talk.settings.model_copy(update={"encryption_keys": SecretStr(f"{NEW},{OLD}")}))
    await Resealing(talk.scripts, talk.client, both, talk.settings.partitions).run(talk.keys)
    new = talk.settings.model_copy(update={"encryption_keys": SecretStr(NEW)})
    again = Talk(new)
    again.keys = talk.keys
    assert (await again.summaries.newest(talk.keys)).text == "and seals"
    assert (await again.resume()).summary == "otters"
    await again.client.aclose()
