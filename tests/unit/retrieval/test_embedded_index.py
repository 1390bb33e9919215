"""The embedded index's folder: one owner, whole after SIGKILL, clear errors when damaged, tidied next to the loop."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sessions.errors import IndexLocked, IndexUnavailable
from tests.support import preloaded
from tests.support.knowledge import MODEL, add, asking, chunk, texts
from workers.retrieval.index import FOLDER, default_collection, home_id, open_index, try_claim
from workers.retrieval.index.embedded import EmbeddedIndex
from workers.retrieval.index.embedded.shard import Shard
from workers.retrieval.ports import EmbeddingInfo, Scope

ALICE = Scope("acme", "user:alice")
BOB = Scope("acme", "user:bob")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / FOLDER


@pytest.fixture
async def index(folder: Path) -> AsyncIterator[EmbeddedIndex]:
    opened = EmbeddedIndex.open(folder)
    yield opened
    await opened.close()


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a separate process; it finds the folder in `FOLDER`."""
    return preloaded.run(_command(code, folder), env=os.environ, cwd=ROOT)


def _command(code: str, folder: Path) -> list[str]:
    head = f"from pathlib import Path\nFOLDER = Path({str(folder)!r})\n"
    return [sys.executable, "-c", head + textwrap.dedent(code)]


# --- one owner ---------------------------------------------------------------------------------------------


async def test_a_second_owner_is_told_who_the_first_is_and_what_to_do(index: EmbeddedIndex, folder: Path) -> None:
    """The owner may be in this process or in another."""
    with pytest.raises(IndexLocked, match=rf"process {os.getpid()}.*sessionfleet down.*QDRANT_URL"):
        EmbeddedIndex.open(folder)
    other = run(
        """
        from workers.retrieval.index.embedded import EmbeddedIndex
        EmbeddedIndex.open(FOLDER)
        """,
        folder,
    )
    assert f"process {os.getpid()}" in other.stderr
    assert "IndexLocked" in other.stderr


async def test_a_worker_can_ask_whether_the_folder_is_free_and_then_use_it(folder: Path) -> None:
    """The claim becomes the index's lock, so no other process comes between."""
    lock = try_claim(folder)
    assert lock is not None
    assert try_claim(folder) is None
    index = EmbeddedIndex(lock)
    await add(index, "c", chunk(ALICE, "tea"))
    await index.close()
    again = try_claim(folder)
    assert again is not None
    again.release()


def test_asking_loads_no_engine(folder: Path) -> None:
    """A worker that serves no retrieval stays light."""
    code = """
        import sys
        from workers.retrieval import ports
        from workers.retrieval.index import home_id, try_claim
        try_claim(FOLDER)
        home_id(FOLDER)
        heavy = {"qdrant_edge", "qdrant_client", "numpy", "onnxruntime", "tokenizers", "pypdf"}
        print(sorted(heavy & set(sys.modules)))
        """
    command = _command(code, folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_owner_that_is_killed_owns_nothing_any_more(folder: Path) -> None:
    """The kernel releases the lock."""
    done = run(
        """
        import os, signal
        from workers.retrieval.index import try_claim
        lock = try_claim(FOLDER)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        folder,
    )
    assert done.returncode == -signal.SIGKILL
    lock = try_claim(folder)
    assert lock is not None
    lock.release()


def test_a_home_has_one_id_for_ever(folder: Path, tmp_path: Path) -> None:
    """Two machines that each own half of the knowledge tell themselves apart by it."""
    assert home_id(folder) == home_id(folder)
    assert home_id(folder) != home_id(tmp_path / "elsewhere")
    assert [path.name for path in folder.iterdir()] == ["home-id"]


# --- what survives -----------------------------------------------------------------------------------------


async def test_what_write_and_publish_returned_from_survives_sigkill(folder: Path) -> None:
    """A separate process is killed directly after each of them returned."""
    done = run(
        """
        import asyncio, os, signal
        from tests.support.knowledge import MODEL, add, chunk
        from workers.retrieval.index.embedded import EmbeddedIndex
        from workers.retrieval.ports import Scope

        async def main():
            alice, bob = Scope("acme", "user:alice"), Scope("acme", "user:bob")
            index = EmbeddedIndex.open(FOLDER)
            await add(index, "c", *(chunk(alice, f"tea {n}", number=n) for n in range(300)))
            await add(index, "c", chunk(alice, "tea new", revision="r2"))
            await add(index, "c", chunk(bob, "tea"))
            await index.remove("c", bob)
            await index.write("c", MODEL, [chunk(alice, f"letter {n}", source="l", number=n) for n in range(300)])
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """,
        folder,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    index = EmbeddedIndex.open(folder)
    assert await texts(index, "c", asking("tea", ALICE)) == ["tea new"]
    assert await index.count("c", BOB) == 0
    await index.publish("c", ALICE, "l", "r1")
    assert await index.count("c", ALICE) == 301
    await index.close()


async def test_what_was_written_survives_a_power_cut(
    index: EmbeddedIndex, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is synced before a call returns; from it the engine repeats what the data files lack."""
    await add(index, "c", chunk(ALICE, "tea"))
    old = tmp_path / "old"
    shutil.copytree(folder / "c", old / "c")
    log = folder / "c" / "data" / "wal"
    synced: set[int] = set()
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.add(os.fstat(file).st_ino), real(file)))
    for call in (
        index.write("c", MODEL, [chunk(ALICE, "tea new", revision="r2")]),
        index.publish("c", ALICE, "notes", "r2"),
        add(index, "c", chunk(BOB, "tea")),
        index.remove("c", BOB),
    ):
        synced.clear()
        await call
        assert {path.stat().st_ino for path in log.glob("open-*")} <= synced
    shutil.rmtree(old / "c" / "data" / "wal")
    shutil.copytree(folder / "c" / "data" / "wal", old / "c" / "data" / "wal")
    after = EmbeddedIndex.open(old)
    assert await texts(after, "c", asking("tea", ALICE)) == ["tea new"]
    assert await after.count("c", BOB) == 0
    await after.close()


async def test_a_file_that_the_engine_is_about_to_rename_is_no_damage(index: EmbeddedIndex, folder: Path) -> None:
    """The log's next file is prepared next to the log's user, and may vanish between its listing and its opening."""
    await add(index, "c", chunk(ALICE, "tea"))
    prepared = folder / "c" / "data" / "wal" / "tmp-open-9"
    prepared.symlink_to("vanished")
    await add(index, "c", chunk(ALICE, "green tea", source="more"))
    prepared.unlink()
    assert await index.count("c", ALICE) == 2


async def test_an_index_that_was_closed_opens_as_it_was(folder: Path) -> None:
    """An index with several collections opens unchanged."""
    first = EmbeddedIndex.open(folder)
    await add(first, "one", chunk(ALICE, "tea"))
    await add(first, "two", chunk(ALICE, "coffee"))
    await first.close()
    with pytest.raises(IndexUnavailable, match="closed"):
        await first.count("one", ALICE)
    second = EmbeddedIndex.open(folder)
    assert await second.collections() == {"one": MODEL, "two": MODEL}
    assert await texts(second, "two", asking("coffee", ALICE)) == ["coffee"]
    await second.close()


async def test_a_collection_half_made_when_its_maker_died_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection is built in a temporary place and moved when it is complete."""
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
    index = EmbeddedIndex.open(folder)
    with pytest.raises(OSError, match="no space"):
        await index.write("c", MODEL, [chunk(ALICE, "tea")])
    monkeypatch.undo()
    assert await index.collections() == {}
    await add(index, "c", chunk(ALICE, "tea"))
    assert await texts(index, "c", asking("tea", ALICE)) == ["tea"]
    await index.close()


# --- what is damaged -----------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)


def _scribble(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and file.stat().st_size:
            with file.open("r+b") as opened:
                opened.write(b"\xff" * 64)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("collection.json", _cut),
        ("collection.json", _remove),
        ("data/wal", _cut),
        ("data/wal", _scribble),
        ("data/edge_config.json", _scribble),
        ("data/segments", _scribble),
        ("data/segments", _remove),
        ("data", _remove),
    ],
)
async def test_a_damaged_folder_is_named_with_what_to_do(folder: Path, what: str, how: Callable[[Path], None]) -> None:
    """Its collection is refused; the others are served."""
    index = EmbeddedIndex.open(folder)
    await add(index, "c", chunk(ALICE, "tea"))
    await add(index, "whole", chunk(ALICE, "tea"))
    await index.close()
    how(folder / "c" / what)
    index = EmbeddedIndex.open(folder)
    with pytest.raises(IndexUnavailable, match=rf"{re.escape(str(folder / 'c'))}.*damaged.*restore a copy"):
        await index.search("c", MODEL, asking("tea", ALICE))
    assert await texts(index, "whole", asking("tea", ALICE)) == ["tea"]
    await index.close()


async def test_a_newer_format_is_refused(folder: Path) -> None:
    """An older version does not guess what a newer format means."""
    index = EmbeddedIndex.open(folder)
    await add(index, "c", chunk(ALICE, "tea"))
    await index.close()
    about = folder / "c" / "collection.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": 2}))
    index = EmbeddedIndex.open(folder)
    with pytest.raises(IndexUnavailable, match="format 2"):
        await index.count("c", ALICE)
    await index.close()


async def test_a_shard_that_another_process_has_open_is_no_damage(index: EmbeddedIndex, folder: Path) -> None:
    """The process may belong to a killed owner and end in a moment, so the error says to try again."""
    await add(index, "c", chunk(ALICE, "tea"))
    with pytest.raises(IndexUnavailable, match="try again"):
        Shard.load(folder / "c")


# --- tidying ---------------------------------------------------------------------------------------------------


async def _grown(index: EmbeddedIndex, chunks: int, removed: int) -> None:
    await add(index, "c", *(chunk(ALICE, f"tea {n}", number=n) for n in range(chunks)))
    await add(index, "c", *(chunk(BOB, f"tea {n}", number=n) for n in range(removed)))
    await index.remove("c", BOB)


async def test_tidying_rewrites_a_collection_of_which_much_was_removed(index: EmbeddedIndex, folder: Path) -> None:
    """In a child, while the loop continues; what is left is found, and can be changed."""
    await _grown(index, 300, 1100)
    before = set((folder / "c" / "data" / "segments").iterdir())
    ticks = 0
    tidying = asyncio.create_task(index.tidy())
    while not tidying.done():
        await asyncio.sleep(0.005)
        ticks += 1
    await tidying
    assert ticks > 5
    assert set((folder / "c" / "data" / "segments").iterdir()).isdisjoint(before)
    assert await index.count("c", ALICE) == 300
    await add(index, "c", chunk(ALICE, "tea new", revision="r2"))
    assert await texts(index, "c", asking("tea", ALICE)) == ["tea new"]


async def test_tidying_leaves_alone_what_is_tidy(index: EmbeddedIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tidying may be called whenever nothing else is due."""
    await _grown(index, 300, 10)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing to do"))
    await index.tidy()


async def test_a_child_that_is_killed_while_it_tidies_loses_nothing(
    index: EmbeddedIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The collection is opened again as it was; the log says that it was not tidied."""
    await _grown(index, 300, 1100)
    real = subprocess.run

    def killed(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        # Right after the engine has rewritten the collection, before it is flushed and closed.
        code = (
            "import os, sys; from qdrant_edge import EdgeShard; EdgeShard.load(sys.argv[1]).optimize(); "
            "os.kill(os.getpid(), 9)"
        )
        return real([command[0], "-c", code, command[-1]], **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(subprocess, "run", killed)
    await index.tidy()
    assert "knowledge_not_tidied" in caplog.text
    assert await index.count("c", ALICE) == 300
    assert await index.count("c", BOB) == 0
    assert len(await texts(index, "c", asking("tea", ALICE))) == 5


async def test_a_child_that_cannot_be_started_loses_nothing(
    index: EmbeddedIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker that tidies now and then goes on; the log says that the collection was not tidied."""
    await _grown(index, 300, 1100)

    def refused(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "run", refused)
    await index.tidy()
    assert "knowledge_not_tidied" in caplog.text
    assert await index.count("c", ALICE) == 300


# --- names and the factory -------------------------------------------------------------------------------------


async def test_without_a_url_the_index_is_embedded_under_the_home(tmp_path: Path) -> None:
    """No server is needed to begin with."""
    index = open_index(tmp_path, qdrant_url=None, api_key=None, timeout=5)
    await add(index, "c", chunk(ALICE, "tea"))
    await index.close()
    assert (tmp_path / FOLDER / "c" / "collection.json").exists()


def test_each_model_and_dimension_has_a_collection_of_its_own() -> None:
    """Names are valid, and stay the same for ever: stored data is under them."""
    names = [
        default_collection(EmbeddingInfo(model, dimension))
        for model, dimension in [("a/b", 384), ("a-b", 384), ("a/b", 768), ("Ünïcode " * 40, 3)]
    ]
    assert len(set(names)) == 4
    assert names[0] == "sessionfleet-a-b-fcb0bb8f"
