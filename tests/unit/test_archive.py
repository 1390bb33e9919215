"""The archive itself, in each of its forms: each turn once, in order, and erased for good."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config.settings import Settings
from sessions.archive.address import open_archive
from sessions.archive.jsonl import JsonlArchive
from sessions.archive.records import Archive, ArchivedTurn, SessionSnapshot
from sessions.errors import ArchiveUnavailable, BadRequest
from tests.support.postgres import running_postgres

MESSAGES = [{"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Hel\0lo \ud800 ü"}]}]


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with running_postgres() as server:
        yield server.url


@pytest.fixture(params=["sqlite", "jsonl", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"{request.param}:{'///' if request.param == 'sqlite' else ''}{tmp_path / 'archive'}"


@pytest.fixture
def archive(address: str) -> Iterator[Archive]:
    opened = open_archive(address)
    yield opened
    opened.close()


def turn(session_id: str, number: int, **fields: object) -> ArchivedTurn:
    values = {
        "at_ms": 1000 + number,
        "count": 1,
        "agent": "A",
        "messages": MESSAGES,
        "usage": {"requests": 1},
        **fields,
    }
    return ArchivedTurn.model_validate({"tenant": "t", "session_id": session_id, "turn": f"{number:032x}", **values})


def snapshot(session_id: str, updated_ms: int, **fields: object) -> SessionSnapshot:
    return SessionSnapshot.model_validate(
        {"tenant": "t", "session_id": session_id, "updated_ms": updated_ms, "user_id": "ann", **fields}
    )


def written(archive: Archive, session_id: str) -> list[int]:
    return [int(found.turn, 16) for found in archive.turns("t", session_id)]


def test_each_turn_is_there_once_and_in_order(archive: Archive, request: pytest.FixtureRequest) -> None:
    """Whatever was written again, and in whatever order; with all characters that JSON may contain."""
    name = request.node.name
    for number in (1, 2, 1, 3, 2, 500):
        archive.write(turn(name, number), snapshot(name, 1000 + number, state={"step": number}))
    archive.write(turn(name, 2), snapshot(name, 1002, state={"step": 2}))  # a repeated try, later
    assert written(archive, name) == [1, 2, 3, 500]
    assert next(archive.turns("t", name)).messages == MESSAGES
    (found,) = (session for session in archive.sessions() if session.session_id == name)
    assert (found.user_id, found.state) == ("ann", {"step": 500})


def test_a_long_session_is_read_in_pages(archive: Archive, request: pytest.FixtureRequest) -> None:
    """Turns that began in the same millisecond keep the order in which they were written."""
    for number in range(450):
        archive.write(turn(request.node.name, number, at_ms=1000 + number // 300), None)
    assert written(archive, request.node.name) == list(range(450))


def test_what_was_erased_does_not_come_back(archive: Archive, request: pytest.FixtureRequest) -> None:
    """Also not with a turn that was on its way; a session of the same id that began later is another one."""
    name = request.node.name
    for number in (1, 2, 3):
        archive.write(turn(name, number), snapshot(name, 1003))
    archive.write(turn(f"{name}-other", 1), snapshot(f"{name}-other", 1001))
    archive.erase("t", name, f"{2:032x}", 9999)
    assert written(archive, name) == [1, 3]
    archive.write(turn(name, 2), None)
    assert written(archive, name) == [1, 3]
    archive.erase("t", name, None, 2000)
    archive.write(turn(name, 4), None)
    assert written(archive, name) == []
    assert [found.session_id for found in archive.sessions() if found.session_id.startswith(name)] == [f"{name}-other"]
    archive.write(turn(name, 5000), snapshot(name, 6000))
    assert written(archive, name) == [5000]


def test_the_turn_travels_compressed() -> None:
    """It waits in the store while the archive is unreachable."""
    long = turn("s", 1, messages=MESSAGES * 100)
    assert ArchivedTurn.unpacked(long.packed()) == long
    assert len(long.packed()) < len(json.dumps(long.model_dump())) / 10


def test_a_line_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    """A process may die between the line and the index, or in the middle of the line."""
    path = tmp_path / "turns.jsonl"
    archive = JsonlArchive(path)
    archive.write(turn("s", 1), None)
    line = json.dumps({"turn": turn("s", 2).model_dump(), "session": None}).encode() + b"\n"
    with path.open("ab") as file:
        file.write(line + line.replace(b"0002", b"0003")[:-20])
    for number in (1, 2, 3):
        archive.write(turn("s", number), None)
    assert written(archive, "s") == [1, 2, 3]


def _write_many(path: Path, start: int) -> None:
    archive = JsonlArchive(path)
    for number in range(start, 2000):
        archive.write(turn("s", number), None)


def test_two_processes_share_a_file_and_one_is_killed(tmp_path: Path) -> None:
    """Each line is whole, and each turn is there once."""
    path = tmp_path / "turns.jsonl"
    context = multiprocessing.get_context("fork")
    first, second = (context.Process(target=_write_many, args=(path, start)) for start in (0, 3))
    first.start()
    second.start()
    while not path.exists() or path.read_bytes().count(b"\n") < 40:
        pass
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    os.kill(second.pid or 0, signal.SIGKILL)
    second.join()
    archive = JsonlArchive(path)
    for number in range(60):
        archive.write(turn("s", number), None)
    found = written(archive, "s")
    assert len(found) == len(set(found))
    assert set(range(60)) <= set(found)


@pytest.mark.parametrize(
    "address",
    ["sqlite:////nowhere/at/all", "jsonl:/proc/none", "postgresql://u:hunter2@127.0.0.1:1/db?connect_timeout=2"],
)
def test_an_archive_that_cannot_be_reached_says_so(address: str) -> None:
    """Without the password."""
    with pytest.raises(ArchiveUnavailable) as refused:
        open_archive(address).write(turn("s", 1), None)
    assert "hunter2" not in str(refused.value)


def test_an_unknown_address_is_refused_with_the_known_ones() -> None:
    """In the settings, too: a worker must not run for a day before somebody notices."""
    with pytest.raises(BadRequest, match=r"use sqlite:///"):
        open_archive("mysql://u:hunter2@host/db")
    with pytest.raises(ValueError, match=r"use sqlite:///"):
        Settings(archive="mysql://u@host/db")  # type: ignore[arg-type]
