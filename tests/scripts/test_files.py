"""The files of a session: stored once, in pieces, limited, expiring unused, and gone with the session."""

from __future__ import annotations

import copy
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from sessions.errors import FileTooLarge, InvalidFile, SessionOwnerError, StoreFull, TooManyFiles, UnknownFile
from sessions.protocol.message import MediaPart, TextPart
from sessions.protocol.turn import Policy, TurnRequest
from sessions.store.files import PIECE_BYTES, FileContent, FileStore, StoredFile
from sessions.store.keys import SessionKeys
from sessions.store.resealing import Resealing
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.submission import Submission
from sessions.store.transitions.files import add_file
from tests.scripts.test_scripts import PLACES, Store, settings_for
from tests.scripts.test_sealed_turns import BOTH

LARGE = bytes(range(256)) * 1024 * 2 + b"the end"
SECRET = b"\x89PNG the secret picture"


class Files(Store):
    """A store with its files."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.keyring = KeyRing.of(settings)
        self.files = FileStore(self.scripts, self.client, settings, self.keyring)
        self.records = SessionRecords(self.scripts, self.client, self.keyring)

    async def add(self, data: bytes = SECRET, name: str = "photo.png", **options: Any) -> StoredFile:
        content = FileContent(io.BytesIO(data), name, "image/png")
        await self.files.measure(content)
        keys, options = options.pop("keys", self.keys), {"user_id": None, "ttl": None, **options}
        return await self.files.add(keys, content, **options)

    async def send(self, *files: StoredFile, **options: Any) -> str:
        parts = (TextPart(text="what?"), *(file.part for file in files))
        submission = Submission(
            TurnRequest(message="what?", parts=parts), queue="turns", timeout=900.0, **{"user_id": None, **options}
        )
        return (await self.turns.accept(self.keys, submission)).part

    async def file_keys(self) -> list[str]:
        return [key for key in await self.left() if ":file:" in key]


@pytest.fixture(params=PLACES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Files]:
    opened = Files(settings_for(request))
    yield opened
    await opened.turns.delete_session(opened.keys)
    await opened.client.aclose()


def limited(store: Files, **settings: Any) -> Files:
    """The same session, as a process with other settings sees it."""
    other = copy.copy(store)
    other.settings = store.settings.model_copy(update=settings)
    other.keyring = KeyRing.of(other.settings)
    other.files = FileStore(store.scripts, store.client, other.settings, other.keyring)
    return other


async def test_a_file_is_stored_once_in_pieces(store: Files) -> None:
    """The same content again is the same file; no piece is larger than a quarter of a megabyte."""
    first, again = await store.add(LARGE), await store.add(LARGE, "other.png")
    assert first.id == again.id
    assert await store.files.content(store.keys, first.id) == LARGE
    (listed,) = await store.files.listed(store.keys)
    assert (listed.name, listed.size, listed.kind) == ("other.png", len(LARGE), "image")
    pieces = await store.client.hgetall(store.keys.file(first.id))
    assert len(pieces) == 3
    assert all(len(piece) <= PIECE_BYTES + 64 for piece in pieces.values())


@pytest.mark.parametrize("store", ["sealed"], indirect=True)
async def test_with_keys_nothing_is_stored_in_clear(store: Files) -> None:
    """Neither bytes nor name nor a digest of the content."""
    file = await store.add(SECRET, "salary.png")
    stored = await store.client.hgetall(store.keys.file(file.id))
    listed = await store.client.hgetall(store.keys.files)
    everything = b"".join([*stored.values(), *listed.values(), *listed])
    assert b"secret" not in everything
    assert b"salary" not in everything
    content = FileContent(io.BytesIO(SECRET), "", "")
    await content.measure(1000)
    assert content.sha256 not in file.id


async def test_an_unused_file_expires_and_a_used_one_does_not(store: Files) -> None:
    """Its bytes have a TTL until a turn is accepted with it."""
    used, unused = await store.add(b"used"), await store.add(b"unused")
    assert 0 < await store.client.pttl(store.keys.file(unused.id)) <= 3_600_000
    await store.send(used)
    assert await store.client.pttl(store.keys.file(used.id)) == -1
    late = await store.add(b"late")
    entry = await store.client.hget(store.keys.files, late.id)
    await store.client.hset(store.keys.files, late.id, b"4,1,1:" + entry.partition(b":")[2])  # as if its time was over
    await store.add(b"next")  # removes it from the list
    assert await store.file_keys() == sorted(
        store.keys.file(file.id) for file in (used, unused, await store.add(b"next"))
    )


async def test_the_files_of_a_session_with_a_ttl_expire_with_it(store: Files) -> None:
    """None while a turn is open; one expiry for all when the last one ends."""
    file = await store.add(ttl=50.0)
    await store.send(file, session_ttl=50.0)
    assert await store.client.pttl(store.keys.files) == -1
    assert await store.client.pttl(store.keys.file(file.id)) == -1
    await store.commit(await store.begin(), go_on=False)
    expiries = {
        await store.client.pexpiretime(key) for key in (store.keys.meta, store.keys.files, store.keys.file(file.id))
    }
    assert len(expiries) == 1
    await store.send(file, session_ttl=50.0)
    assert await store.client.pttl(store.keys.file(file.id)) == -1


async def test_an_unused_file_does_not_outlive_its_session(store: Files) -> None:
    """Its bytes and the list of files expire at the same time."""
    file = await store.add(ttl=50.0)
    listed, content = [await store.client.pexpiretime(key) for key in (store.keys.files, store.keys.file(file.id))]
    assert listed == content


async def test_a_store_that_is_full_half_way_keeps_nothing(store: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces that were sent are removed, also those of no file that a turn uses."""
    used = await store.add()
    await store.send(used)
    run, sent = store.scripts.run, 0

    async def full(call: Any) -> Any:
        nonlocal sent
        sent += call.script.name == "add_file_piece"
        if sent > 1:
            sent = -100
            raise StoreFull
        return await run(call)

    monkeypatch.setattr(store.scripts, "run", full)
    with pytest.raises(StoreFull):
        await store.add(LARGE)
    assert await store.file_keys() == [store.keys.file(used.id)]
    assert [file.id for file in await store.files.listed(store.keys)] == [used.id]


async def test_deleting_a_session_removes_the_bytes(store: Files) -> None:
    """Of files that turns used, that none used, and that are still being uploaded."""
    file = await store.add()
    await store.add(b"unused")
    await store.send(file)
    half = add_file(
        store.keys.pair, file="a" * 64, user=None, turn=None, session_ttl_ms=None, size=9, pieces=2, details=b"x",
        unused_ms=1000, most=9, most_bytes=1000,
    )  # fmt: skip
    await store.scripts.run(half)
    assert (await store.turns.delete_session(store.keys))["files"] == 3
    assert await store.left() == []


async def test_a_file_of_another_session_is_refused(store: Files) -> None:
    """Its id alone gives nobody access, and nothing is accepted."""
    file = await store.add(keys=SessionKeys.of("default", f"other-{store.keys.session_id}", store.settings.partitions))
    with pytest.raises(UnknownFile):
        await store.send(file)
    assert not await store.client.exists(store.keys.meta, store.keys.mailbox, store.keys.files)
    with pytest.raises(UnknownFile):
        await store.files.content(store.keys, file.id)
    with pytest.raises(UnknownFile):
        await store.files.details(store.keys, "../meta")


async def test_a_file_that_is_not_complete_is_refused(store: Files) -> None:
    """One of its pieces is not there yet."""
    file = await store.add(LARGE)
    await store.client.hdel(store.keys.file(file.id), "1")
    with pytest.raises(UnknownFile):
        await store.send(file)
    assert await store.files.listed(store.keys) == []
    await store.add(LARGE)  # sends the rest
    await store.send(file)


async def test_number_and_size_are_limited(store: Files) -> None:
    """Nothing of a file beyond a limit is stored; deleting one makes room."""
    few = limited(store, files_limit=2)
    first = await few.add(b"1")
    await few.add(b"2")
    with pytest.raises(TooManyFiles, match="SESSIONFLEET_FILES_LIMIT"):
        await few.add(b"3")
    await few.add(b"2")  # is there
    assert await few.files.remove(store.keys, first.id, None)
    await few.add(b"3")
    small = limited(store, files_limit_bytes=5)
    with pytest.raises(TooManyFiles):
        await small.add(b"12345")
    with pytest.raises(FileTooLarge, match="SESSIONFLEET_FILE_LIMIT_BYTES"):
        await (limited(store, file_limit_bytes=3)).add(b"1234")
    with pytest.raises(InvalidFile):
        await store.add(b"")
    assert len(await store.file_keys()) == 2


async def test_only_the_owner_may_add_and_remove(store: Files) -> None:
    """As for everything else of a session."""
    file = await store.add(user_id="alice")
    with pytest.raises(SessionOwnerError):
        await store.add(b"x", user_id="bob")
    with pytest.raises(SessionOwnerError):
        await store.files.remove(store.keys, file.id, "bob")


async def test_a_message_with_a_file_joins_a_running_turn(store: Files) -> None:
    """The journal gets its parts, the event shows them, and the file is kept."""
    file = await store.add()
    await store.send(file, policy=Policy.ENQUEUE)
    begun = await store.begin()
    second = await store.add(b"second")
    assert await store.send(second, policy=Policy.STEER) == begun.part
    taken, count = await store.leases.take_steering(store.keys, begun, "steer:1", 2)
    assert count == 1
    assert second.id.encode() in taken
    assert await store.client.pttl(store.keys.file(second.id)) == -1
    events = await store.client.xrange(store.keys.events(begun.part))
    data = store.keyring.open(store.keys.events(begun.part), events[-1][0].decode(), events[-1][1][b"data"])
    assert second.id.encode() in data


async def test_a_step_keeps_the_files_that_it_made(store: Files) -> None:
    """A tool's file is used from the moment in which the journal has it."""
    await store.send()
    begun, file = await store.begin(), await store.add()
    await store.leases.record(store.keys, begun, "tool:1", b"{}", 2, [], [file.id]).done()
    assert await store.client.pttl(store.keys.file(file.id)) == -1


async def test_a_copy_of_a_session_has_its_files(store: Files) -> None:
    """They are there when the new session is, and are its own."""
    file = await store.add(LARGE)
    target = SessionKeys.of("default", f"{store.keys.session_id}-copy", store.settings.partitions)
    await store.files.copy(store.keys, target, "c1", 60)
    assert await store.files.listed(target) == []
    await store.records.create(
        target, (), user_id=None, queue="turns", ttl=None, messages=0, state={}, agents={}, origin="", copy="c1"
    )
    await store.turns.delete_session(store.keys)
    assert await store.files.content(target, file.id) == LARGE
    assert await store.client.pttl(target.file(file.id)) == -1
    assert (await store.turns.delete_session(target))["files"] == 1
    assert await store.left() == []


@pytest.mark.parametrize("store", ["sealed"], indirect=True)
async def test_files_are_re_encrypted(store: Files) -> None:
    """With a new first key, every piece and the details; the file keeps its id."""
    file = await store.add(LARGE, "photo.png")
    new = limited(store, encryption_keys=SecretStr(BOTH))
    done = await Resealing(new.scripts, new.client, new.keyring, store.settings.partitions).run(store.keys)
    assert done.values >= 4
    assert not done.closed
    for raw in (await store.client.hgetall(store.keys.file(file.id))).values():
        assert new.keyring.current(raw)
    assert await new.files.content(store.keys, file.id) == LARGE
    assert (await new.files.details(store.keys, file.id)).name == "photo.png"
    assert (await new.add(LARGE)).id == file.id


async def test_a_file_that_changes_while_it_is_read_is_refused(store: Files) -> None:
    """Its id would not be that of its content; nothing is left."""
    source = io.BytesIO(LARGE)
    content = FileContent(source, "a.png", "image/png")
    await content.measure(10**9)
    source.seek(0)
    source.write(b"changed")
    with pytest.raises(InvalidFile, match="changed"):
        await store.files.add(store.keys, content, user_id=None, ttl=None)
    assert await store.file_keys() == []


def test_the_id_of_a_part_is_a_file_id() -> None:
    """Nothing else can get into a key."""
    with pytest.raises(ValueError, match="file_id"):
        MediaPart(type="image", file_id="a:b")
