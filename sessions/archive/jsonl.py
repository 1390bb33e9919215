"""The archive in a file of JSON lines, one turn a line with what was known of its session.

Processes of one machine may share the file: a lock makes them wait for each other. Next to it is a small index
(`<file>.index`, SQLite) with the turns that are in the file, so that each is written once. A process that dies between
the two leaves a line that the next one finds at the end of the file, behind what the index knows.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sessions.archive.records import ArchivedTurn, SessionSnapshot, digest_of
from sessions.errors import ArchiveUnavailable

_TABLES = (
    "CREATE TABLE IF NOT EXISTS turns (digest TEXT, turn TEXT, PRIMARY KEY (digest, turn)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS erased (digest TEXT, turn TEXT, erased_ms INTEGER, PRIMARY KEY (digest, turn))",
    "CREATE TABLE IF NOT EXISTS known (one INTEGER PRIMARY KEY, bytes INTEGER)",
)


class JsonlArchive:
    """An `Archive` in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, turn: ArchivedTurn, session: SessionSnapshot | None) -> None:
        """Append a turn, unless it is there or was erased."""
        digest = digest_of(turn.tenant, turn.session_id)
        line = {"turn": turn.model_dump(mode="json"), "session": None if session is None else session.model_dump()}
        with self._locked() as index, self._path.open("r+b") as file:
            end = _caught_up(index, file)
            gone = index.execute(
                "SELECT 1 FROM erased WHERE digest = ? AND (turn = ? OR (turn = '' AND erased_ms >= ?))",
                (digest, turn.turn, turn.at_ms),
            ).fetchone()
            there = index.execute("SELECT 1 FROM turns WHERE digest = ? AND turn = ?", (digest, turn.turn)).fetchone()
            if gone is not None or there is not None:
                return
            file.seek(end)
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            _note(index, digest, turn.turn, file.tell())

    def erase(self, tenant: str, session_id: str, turn: str | None, before_ms: int) -> None:
        """Write the file again without the erased lines."""
        digest = digest_of(tenant, session_id)

        def erased(found: ArchivedTurn) -> bool:
            if (found.tenant, found.session_id) != (tenant, session_id):
                return False
            return found.at_ms <= before_ms if turn is None else found.turn == turn

        with self._locked() as index:
            with index:
                index.execute("INSERT OR REPLACE INTO erased VALUES (?, ?, ?)", (digest, turn or "", before_ms))
            kept = self._path.with_name(f".{self._path.name}.kept")
            with self._path.open("rb") as file, kept.open("wb") as new:
                for line in file:
                    if line.endswith(b"\n") and not erased(_turn(line)):
                        new.write(line)
                new.flush()
                os.fsync(new.fileno())
                size = new.tell()
            kept.replace(self._path)
            with index:
                index.execute("INSERT OR REPLACE INTO known VALUES (1, ?)", (size,))

    def sessions(self) -> Iterator[SessionSnapshot]:
        """All sessions: what the newest line says of each."""
        newest: dict[tuple[str, str], SessionSnapshot] = {}
        for line in self._lines():
            turn, session = _turn(line), json.loads(line)["session"]
            key = (turn.tenant, turn.session_id)
            if session is not None:
                newest[key] = SessionSnapshot.model_validate(session)
            elif key not in newest:
                newest[key] = SessionSnapshot(tenant=turn.tenant, session_id=turn.session_id, user_id=turn.user_id)
        yield from newest.values()

    def turns(self, tenant: str, session_id: str) -> Iterator[ArchivedTurn]:
        """The turns of a session, in their order."""
        of_session = (
            turn for turn in map(_turn, self._lines()) if (turn.tenant, turn.session_id) == (tenant, session_id)
        )
        yield from sorted(of_session, key=lambda turn: turn.at_ms)

    def close(self) -> None:
        """Does nothing: the file is opened for each turn."""

    def _lines(self) -> Iterator[bytes]:
        with self._usable(), self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # else it is being written, or its process died
                    yield line

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        """The index, while no other process changes the file."""
        with self._usable():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            os.close(descriptor)
            with Path(f"{self._path}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                index = sqlite3.connect(f"{self._path}.index")
                try:
                    for table in _TABLES:
                        index.execute(table)
                    yield index
                finally:
                    index.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error, ValueError, KeyError) as error:
            raise ArchiveUnavailable(f"the archive {str(self._path)!r} cannot be used now: {error}") from error


def _turn(line: bytes) -> ArchivedTurn:
    return ArchivedTurn.model_validate(json.loads(line)["turn"])


def _caught_up(index: sqlite3.Connection, file: IO[bytes]) -> int:
    """Note the lines that the index does not know yet; returns where the next one begins."""
    known: tuple[Any, ...] | None = index.execute("SELECT bytes FROM known").fetchone()
    end = 0 if known is None else int(known[0])
    file.seek(end)
    for line in file:
        if not line.endswith(b"\n"):  # its process died while it wrote it
            file.truncate(end)
            break
        end += len(line)
        turn = _turn(line)
        _note(index, digest_of(turn.tenant, turn.session_id), turn.turn, end)
    return end


def _note(index: sqlite3.Connection, digest: str, turn: str, end: int) -> None:
    with index:
        index.execute("INSERT OR IGNORE INTO turns VALUES (?, ?)", (digest, turn))
        index.execute("INSERT OR REPLACE INTO known VALUES (1, ?)", (end,))
