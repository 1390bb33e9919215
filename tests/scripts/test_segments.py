"""Segments: the oldest entries of a history, compressed together; positions mean the same with and without them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from broker_config.settings import Settings
from sessions.errors import SealError
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store import segments as segments_module
from sessions.store.adapter_store import ANY, AdapterStore, HistoryChange, Reader
from sessions.store.history import HistoryEntry
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SEGMENTS, SessionKeys
from sessions.store.leases import Ending, LeaseStore
from sessions.store.resealing import Resealing
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.segments import Segments, dump_segment, load_segment
from sessions.store.session_records import SessionRecords
from sessions.store.submission import Replacement, Submission
from sessions.store.transitions import segments as transitions
from sessions.store.transitions.records import clear_history
from sessions.store.transitions.shared import Moved
from tests.support.conversation import Conversation, seen
from tests.support.servers import Server
from workers.turns import packing as packing_module
from workers.turns.packing import HistoryPacking

OLD, NEW = "k1:" + "A" * 43 + "=", "k2:" + "B" * 43 + "="
SIZE, WINDOW = 4, 6
MESSAGES = b'[{"parts":[{"content":"%s","part_kind":"user-prompt"}],"kind":"request"}]'


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few entries, so that short histories have several."""
    monkeypatch.setattr(segments_module, "SEGMENT_ENTRIES", SIZE)
    monkeypatch.setattr(packing_module, "SEGMENT_ENTRIES", SIZE)


@dataclass
class Talk(Conversation):
    """A session with segments, and the turns that its history should have."""

    settings: Settings
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.settings)
        self.scripts = ScriptRunner(self.client)
        self.segments = Segments(self.scripts, KeyRing.of(self.settings))

    async def say(self, count: int = 1) -> None:
        """Some turns, one after the other."""
        for _ in range(count):
            part, _ = await self.chat(MESSAGES % (b"said %d" % len(self.parts)))
            self.parts.append(part)

    async def stored(self) -> list[str]:
        """The turns of the history."""
        return [entry.turn for entry in await self.branches.entries(self.keys, None, 0, -1)]

    async def packed(self) -> int:
        return int(await self.client.hget(self.keys.meta, "packed") or 0)

    async def pack(self) -> None:
        """Write all segments that can be written."""
        while await self.segments.pack(self.keys):
            pass

    async def replace(self, at: int) -> list[str]:
        """A turn in the place of an earlier one; the turns that it saw."""
        turn = await self.begin(replaces=self.parts[at])
        shown = seen(turn)
        await self.commit(turn, MESSAGES % b"another")
        self.parts[at:] = [turn.part]
        return shown


def settings_of(server: Server, keys: str | None = None, **more: object) -> Settings:
    secret = None if keys is None else SecretStr(keys)
    return Settings(
        redis_url=server.url, redis_cluster=server.cluster, encryption_keys=secret, history_window=WINDOW, **more  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(params=["standalone", "cluster", "sealed"])
async def talk(request: pytest.FixtureRequest) -> AsyncIterator[Talk]:
    """A session on a server, on a cluster, and with encryption."""
    server: Server = request.getfixturevalue("cluster_server" if request.param == "cluster" else "server")
    talk = Talk(settings_of(server, OLD if request.param == "sealed" else None))
    yield talk
    await talk.close()


async def test_a_history_is_read_as_before(talk: Talk) -> None:
    """Whole, in pages from both ends, by turn; and the entries are the same bytes. Few of them are entries any more."""
    await talk.say(30)
    before = await talk.branches.entries(talk.keys, None, 0, -1)
    await talk.pack()
    assert await talk.packed() >= 20
    assert await talk.client.llen(talk.keys.history) == 30 - await talk.packed()
    assert await talk.branches.entries(talk.keys, None, 0, -1) == before
    assert await talk.branches.length(talk.keys, None) == 30
    for start, stop in [(0, 0), (3, 4), (2, 9), (17, 25), (29, 29), (25, 40), (30, 31), (-5, -1), (-30, -27), (5, 4)]:
        wanted = before[start:] if stop == -1 else before[start : stop + 1]
        assert await talk.branches.entries(talk.keys, None, start, stop) == wanted, (start, stop)
    for at in (0, 7, 29):
        found = await talk.branches.find(talk.keys, talk.parts[at])
        assert (found.at, found.entry, found.length) == (at, before[at], 30)
    assert (await talk.branches.entry(talk.keys, talk.parts[2], 2)) == before[2]
    assert (await talk.branches.find(talk.keys, "0" * 32)).list == ""


async def test_a_copy_and_an_adapter_get_all_of_it(talk: Talk) -> None:
    """A fork reads all entries in one step; the session objects of other libraries read ranges."""
    await talk.say(20)
    await talk.pack()
    records = SessionRecords(talk.scripts, talk.client, KeyRing.of(talk.settings))
    raw, _, _ = await records.raw_parts(talk.keys)
    assert [HistoryEntry.load(entry).turn for entry in raw] == talk.parts
    store = AdapterStore(talk.scripts, KeyRing.of(talk.settings))
    whole = talk.parts
    for start, stop, wanted in [(0, -1, whole), (-3, -1, whole[-3:]), (-18, -2, whole[2:19]), (2, 5, whole[2:6])]:
        got = await store.read(Reader(talk.keys, None, "test"), start, stop)
        assert got.length == 20
        assert [entry.turn for entry in got.entries] == wanted


async def test_a_turn_sees_what_it_would_see_without_segments(talk: Talk) -> None:
    """The window stands still and moves as before, whenever segments are written."""
    begins = []
    for _ in range(20):
        part, shown = await talk.chat()
        begins.append(len(talk.parts) - len(shown))
        assert shown == talk.parts[begins[-1] :]
        talk.parts.append(part)
        await talk.pack()
    assert begins == [0] * 7 + [4] * 4 + [8] * 4 + [12] * 4 + [16]
    assert await talk.packed() == 16


@pytest.mark.parametrize("at", [0, 5, 19])
async def test_a_turn_in_a_segment_is_deleted(talk: Talk, at: int) -> None:
    """The segment is written without it; the others stay. Also the last entry of a segment, and one after the other."""
    await talk.say(24)
    await talk.pack()
    assert await talk.packed() == 20
    for _ in range(SIZE + 1):
        gone = talk.parts.pop(min(at, len(talk.parts) - 5))
        await talk.branches.delete(talk.keys, gone, None)
        assert await talk.stored() == talk.parts
        assert gone.encode() not in b"".join(await talk.client.lrange(talk.keys.history, 0, -1))
    assert await talk.branches.length(talk.keys, None) == len(talk.parts)
    await talk.say(12)
    await talk.pack()
    assert await talk.stored() == talk.parts


@pytest.mark.parametrize("at", [0, 9, 17])
async def test_an_earlier_turn_is_replaced(talk: Talk, at: int) -> None:
    """What the turn sees, and what it cuts off, is unpacked first. The branch has the turns that left."""
    await talk.say(20)
    await talk.pack()
    before = list(talk.parts)
    shown = await talk.replace(at)
    assert shown == before[:at][-len(shown) :] if shown else at == 0
    assert len(shown) >= min(at, 1)
    assert await talk.stored() == talk.parts
    branch = [entry.turn for entry in await talk.branches.entries(talk.keys, before[at], 0, 99)]
    assert branch == before
    await talk.say(10)
    await talk.pack()
    assert await talk.stored() == talk.parts
    assert [entry.turn for entry in await talk.branches.entries(talk.keys, before[at], 0, 99)] == before


@pytest.mark.parametrize("seed", range(2))
async def test_any_order_of_changes(talk: Talk, seed: int) -> None:
    """Turns, segments written and unpacked, deletions and replacements: the history has what it should have."""
    chance = random.Random(seed)
    await talk.say(3)
    for _ in range(45):
        match chance.choice(["say", "say", "say", "pack", "pack", "delete", "replace", "unpack"]):
            case "say":
                await talk.say(chance.randrange(1, 4))
            case "pack":
                await talk.segments.pack(talk.keys)
            case "unpack":
                await talk.segments.unpack(talk.keys, chance.randrange(len(talk.parts)))
            case "delete" if len(talk.parts) > 4:
                gone = talk.parts.pop(chance.randrange(len(talk.parts)))
                await talk.branches.delete(talk.keys, gone, None)
            case "replace":
                await talk.replace(chance.randrange(len(talk.parts)))
        assert await talk.stored() == talk.parts
        sizes = str(await talk.client.hget(talk.keys.meta, "segment_sizes") or b"")
        runs = [tuple(map(int, run.split("*"))) for run in sizes.strip("b'").split()]
        assert sum(number * size for number, size in runs) == await talk.packed()
        assert sum(number for number, _ in runs) == await talk.client.llen(talk.keys.segments)


async def test_a_worker_that_was_slow_changes_nothing(talk: Talk) -> None:
    """It read entries, and then a turn was deleted, or others packed: its segment is refused."""
    await talk.say(16)
    keys = talk.keys
    found = await talk.scripts.run(transitions.find_packable((keys.base,), most=SIZE, most_bytes=9999))
    assert isinstance(found, transitions.Packable)
    late = {"positions": found.positions, "packed": found.packed, "count": SIZE, "segment": b"late"}
    await talk.branches.delete(keys, talk.parts.pop(1), None)
    assert isinstance(await talk.scripts.run(transitions.pack_history(keys.pair, **late)), Moved)  # type: ignore[arg-type]
    assert await talk.stored() == talk.parts
    found = await talk.scripts.run(transitions.find_packable((keys.base,), most=SIZE, most_bytes=9999))
    assert isinstance(found, transitions.Packable)
    await talk.segments.pack(keys)
    late |= {"positions": found.positions}
    assert isinstance(await talk.scripts.run(transitions.pack_history(keys.pair, **late)), Moved)  # type: ignore[arg-type]
    undo = {"positions": found.positions, "packed": SIZE, "entries": [b"late"] * SIZE}
    await talk.segments.unpack(keys, 0)
    assert isinstance(await talk.scripts.run(transitions.unpack_history(keys.pair, **undo)), Moved)  # type: ignore[arg-type]
    assert await talk.stored() == talk.parts


async def test_a_deletion_that_was_slow_looks_again(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read a segment that was unpacked and written with other entries meanwhile: it must not write those it read."""
    await talk.say(24)
    await talk.pack()
    without, tried = talk.branches._segments.without, []

    async def slowly(keys: SessionKeys, at: int) -> tuple[str, bytes]:
        got = await without(keys, at)
        if not tried:
            await talk.segments.unpack(keys, 0)
            monkeypatch.setattr(segments_module, "SEGMENT_ENTRIES", 2 * SIZE)
            await talk.pack()
        tried.append(at)
        return got

    monkeypatch.setattr(talk.branches._segments, "without", slowly)
    await talk.branches.delete(talk.keys, talk.parts.pop(5), None)
    assert len(tried) == 2
    assert await talk.stored() == talk.parts


async def test_what_an_open_turn_has_seen_stays_in_the_list(talk: Talk) -> None:
    """It may have to be replayed, and a script gives it its window. What a waiting turn is to replace stays, too."""
    await talk.say(4)
    turn = await talk.begin()
    await talk.client.zadd(f"{talk.keys.base}:waiting", {turn.part: 9e15})
    await talk.client.lrem(f"{talk.keys.base}:mailbox", 0, turn.part)
    await talk.say(20)
    await talk.pack()
    assert await talk.packed() == 0
    await talk.client.zrem(f"{talk.keys.base}:waiting", turn.part)
    await talk.client.rpush(f"{talk.keys.base}:mailbox", turn.part)
    await talk.client.hset(talk.keys.turn(turn.part), "max_attempts", 99)
    assert seen(await talk.resume()) == talk.parts[:4]


async def test_segments_expire_and_are_deleted_with_the_session(talk: Talk) -> None:
    """A segment is written after the turn's end, when the session's keys have their expiry already."""
    await talk.say(16)
    await talk.client.hset(talk.keys.meta, "ttl", 900_000)
    await talk.say()
    await talk.pack()
    expiry = await talk.client.pexpiretime(talk.keys.meta)
    assert expiry > 0
    assert await talk.client.pexpiretime(talk.keys.segments) == expiry
    await talk.say()
    assert await talk.client.pexpiretime(talk.keys.segments) == await talk.client.pexpiretime(talk.keys.history) > 0
    await talk.turns.delete_session(talk.keys)
    assert not await talk.client.exists(talk.keys.segments, talk.keys.history, talk.keys.meta)


async def test_a_cleared_history_has_no_segments(talk: Talk) -> None:
    """And what is said afterwards is at its beginning."""
    await talk.say(20)
    await talk.pack()
    await talk.scripts.run(clear_history(talk.keys.pair, user=None, operation="once"))
    talk.parts.clear()
    assert await talk.stored() == []
    await talk.say(12)
    await talk.pack()
    assert await talk.stored() == talk.parts


async def test_segments_that_were_left_behind_do_not_count(talk: Talk) -> None:
    """A process of an earlier version deletes a session without its segments; another session gets its id."""
    await talk.say(16)
    await talk.client.rpush(talk.keys.segments, b"left", b"behind")
    records = SessionRecords(talk.scripts, talk.client, KeyRing.of(talk.settings))
    assert len((await records.raw_parts(talk.keys))[0]) == 16
    await talk.pack()
    assert await talk.stored() == talk.parts
    assert await talk.client.llen(talk.keys.segments) == await talk.packed() // SIZE


@pytest.mark.parametrize("leave", ["drop", "branch"])
@pytest.mark.parametrize("at", [0, 6])
async def test_an_adapter_cuts_where_it_wants(talk: Talk, leave: str, at: int) -> None:
    """Also where the entries are in segments; and what it writes then is at that position."""
    await talk.say(20)
    await talk.pack()
    store, reader = AdapterStore(talk.scripts, KeyRing.of(talk.settings)), Reader(talk.keys, None, "test")
    new = HistoryEntry("f" * 32, "A", 1, 1, b"[]", adapter="test", native=b"[]")
    change = HistoryChange(ANY, [new], at, leave=leave, replaced=talk.parts[at], messages_cut=2)  # type: ignore[arg-type]
    for _ in range(2):
        await store.write(reader, change, queue="turns", ttl=None, operation="once")
    assert await talk.stored() == [*talk.parts[:at], new.turn]


async def test_another_key_encrypts_segments_anew(server: Server) -> None:
    """Afterwards the old key is not needed to read them."""
    talk = Talk(settings_of(server, OLD))
    await talk.say(20)
    await talk.pack()
    plain = b"".join(await talk.client.lrange(talk.keys.segments, 0, -1))
    assert not any(part.encode() in plain for part in talk.parts)
    both = settings_of(server, f"{NEW},{OLD}")
    resealed = await Resealing(talk.scripts, talk.client, KeyRing.of(both), both.partitions).run(talk.keys)
    assert not resealed.closed
    new = HistoryStore(talk.scripts, KeyRing.of(settings_of(server, NEW)))
    assert [entry.turn for entry in await new.entries(talk.keys, None, 0, -1)] == talk.parts
    with pytest.raises(SealError):
        await talk.stored()
    await talk.close()


@pytest.mark.parametrize("broken", ["another key", "damaged"])
async def test_a_turn_whose_history_cannot_be_read_can_end(server: Server, broken: str) -> None:
    """It begins, and says why it cannot be run; otherwise workers would try it again for ever."""
    talk = Talk(settings_of(server, OLD))
    await talk.say(20)
    await talk.pack()
    request = TurnRequest(message="again", agent="A")
    replacement = Replacement(talk.parts[9], same_message=False, same_agent=True)
    submission = Submission(request, queue="turns", timeout=900.0, replacement=replacement)
    await talk.turns.accept(talk.keys, await talk.turns.resolved(talk.keys, submission))
    if broken == "damaged":
        await talk.client.lset(talk.keys.segments, -1, b"\x01no")
    else:
        talk.leases = LeaseStore(talk.scripts, settings_of(server, NEW), "w")
    turn = await talk.resume()
    assert turn.unreadable is not None
    assert (turn.request, turn.history) == (b"", [])
    ending = Ending(TurnStatus.FAILED, error=b'{"type":"TurnConfigurationError","message":"x"}')
    done = await talk.leases.commit(talk.keys, turn, ending, 9, go_on=False, last_ok=True)
    assert done.status is TurnStatus.FAILED
    await talk.close()


async def test_long_entries_make_short_segments(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment is read and written as a whole, so its bytes are limited; one long entry is a segment of its own."""
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES", 5000)
    talk = Talk(settings_of(server))
    for size in (100, 2000, 100, 9000, 100, 100, *[100] * 12):
        part, _ = await talk.chat(b'["%s"]' % (b"x" * size))
        talk.parts.append(part)
    await talk.pack()
    assert await talk.client.hget(talk.keys.meta, "segment_sizes") == b"1*2 2*1 2*4"
    assert await talk.stored() == talk.parts
    await talk.close()


@pytest.mark.parametrize(
    ("setting", "new", "writes"),
    [("auto", True, True), ("auto", False, False), ("on", False, True), ("off", True, False)],
)
async def test_segments_are_written_where_all_processes_read_them(
    server: Server, setting: str, new: bool, writes: bool
) -> None:
    """Earlier versions cannot read them: with `auto`, only in deployments that were created by one that can."""
    talk = Talk(settings_of(server, history_segments=setting))
    await talk.say(16)
    await (talk.client.set(SEGMENTS, 1) if new else talk.client.delete(SEGMENTS))
    packing = HistoryPacking(talk.settings, talk.scripts)
    turn = await talk.begin()
    await talk.commit(turn)
    packing.after(talk.keys, turn)
    for task in list(packing._running.values()):
        await task
    assert (await talk.packed() > 0) is writes
    await talk.client.delete(SEGMENTS)
    await talk.close()


def test_a_segment_is_what_its_entries_were() -> None:
    """Also entries with line breaks, empty ones, and none that a reader of another form would take for entries."""
    entries = [b"a\nb", b"", b"\x00\xff" * 50, b"[1]"]
    raw = dump_segment(entries)
    assert load_segment(raw) == entries
    for damaged in (b"", b"\x02" + raw[1:], raw[:-3], raw[:1]):
        with pytest.raises(ValueError, match="segment"):
            load_segment(damaged)
