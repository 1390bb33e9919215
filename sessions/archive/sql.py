"""The archive in SQL: three tables, in SQLite or in Postgres.

sessionfleet_turns      a row for each committed turn, unique by tenant, session and turn
sessionfleet_sessions   the newest that is known of each session
sessionfleet_erased     what was erased, by digest: a turn that arrives later is refused
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sessions.archive.records import ArchivedTurn, SessionSnapshot, digest_of
from sessions.errors import ArchiveUnavailable

_PAGE: Final = 200
_TURN: Final = (
    *("tenant", "session_id", "turn", "user_id", "sender", "agent", "at_ms", "message_count", "status"),
    *("replaces_at", "usage", "messages"),
)
_SESSION: Final = (
    *("tenant", "session_id", "user_id", "title", "queue", "ttl", "created_ms", "updated_ms"),
    *("metadata", "state", "agents"),
)
_JSON: Final = ("usage", "messages", "metadata", "state", "agents")
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS sessionfleet_turns (
        seq {serial}, tenant TEXT NOT NULL, session_id TEXT NOT NULL, turn TEXT NOT NULL, user_id TEXT, sender TEXT,
        agent TEXT NOT NULL, at_ms BIGINT NOT NULL, message_count BIGINT NOT NULL, status TEXT NOT NULL,
        replaces_at BIGINT, usage {json} NOT NULL, messages {json} NOT NULL, UNIQUE (tenant, session_id, turn)
    )""",
    """CREATE TABLE IF NOT EXISTS sessionfleet_sessions (
        tenant TEXT NOT NULL, session_id TEXT NOT NULL, user_id TEXT, title TEXT NOT NULL, queue TEXT NOT NULL,
        ttl DOUBLE PRECISION, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, metadata {json} NOT NULL,
        state {json} NOT NULL, agents {json} NOT NULL, PRIMARY KEY (tenant, session_id)
    )""",
    """CREATE TABLE IF NOT EXISTS sessionfleet_erased (
        digest TEXT NOT NULL, turn TEXT NOT NULL, erased_ms BIGINT NOT NULL, PRIMARY KEY (digest, turn)
    )""",
)
_ERASED: Final = "SELECT 1 FROM sessionfleet_erased WHERE digest = ? AND (turn = ? OR (turn = '' AND erased_ms >= ?))"
_ERASE: Final = (
    "INSERT INTO sessionfleet_erased (digest, turn, erased_ms) VALUES (?, ?, ?) "
    "ON CONFLICT (digest, turn) DO UPDATE SET erased_ms = excluded.erased_ms"
)
_UPDATED: Final = ", ".join(f"{name} = excluded.{name}" for name in _SESSION[2:])


class Dialect:
    """How two databases differ: connecting, types, placeholders, and the lock of one session.

    Attributes:
        serial, json: types of columns; mark: of a parameter; begin: begins a transaction that writes.
        lock: a statement that makes transactions on one digest wait for each other; None if all of them do.
        errors: the driver's errors; connect: a connection in autocommit mode.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        errors: tuple[type[Exception], ...],
        *,
        serial: str,
        json: str,
        mark: str,
        begin: str,
        lock: str | None,
    ) -> None:
        self.connect = connect
        self.errors = errors
        self.serial = serial
        self.json = json
        self.mark = mark
        self.begin = begin
        self.lock = lock


class SqlArchive:
    """An `Archive` in a database. It connects when it is first used, and again after an error."""

    def __init__(self, dialect: Dialect, name: str) -> None:
        self._dialect = dialect
        self._name = name
        self._connection: Any = None

    # --- writing ----------------------------------------------------------------------------------------

    def write(self, turn: ArchivedTurn, session: SessionSnapshot | None) -> None:
        """Write a turn, unless it is there or was erased, and the newest that is known of its session."""
        digest = digest_of(turn.tenant, turn.session_id)
        with self._transaction(digest):
            if self._run(_ERASED, (digest, turn.turn, turn.at_ms)).fetchone() is not None:
                return
            values = {**turn.model_dump(), "message_count": turn.count}
            self._run(_insert("sessionfleet_turns", _TURN, "NOTHING"), [_plain(values, name) for name in _TURN])
            if session is not None:
                self._write_session(session)

    def _write_session(self, session: SessionSnapshot) -> None:
        # A try that was repeated may be older than what is there.
        action = f"UPDATE SET {_UPDATED} WHERE sessionfleet_sessions.updated_ms <= excluded.updated_ms"
        target = "ON CONFLICT (tenant, session_id)"
        values = session.model_dump()
        self._run(
            _insert("sessionfleet_sessions", _SESSION, action, target), [_plain(values, name) for name in _SESSION]
        )

    def erase(self, tenant: str, session_id: str, turn: str | None, before_ms: int) -> None:
        """Erase one turn, or all turns of a session that began before a time, so that they cannot come back."""
        digest, where = digest_of(tenant, session_id), "WHERE tenant = ? AND session_id = ?"
        with self._transaction(digest):
            self._run(_ERASE, (digest, turn or "", before_ms))
            if turn is not None:
                self._run(f"DELETE FROM sessionfleet_turns {where} AND turn = ?", (tenant, session_id, turn))
                return
            self._run(f"DELETE FROM sessionfleet_turns {where} AND at_ms <= ?", (tenant, session_id, before_ms))
            self._run(f"DELETE FROM sessionfleet_sessions {where} AND updated_ms <= ?", (tenant, session_id, before_ms))

    # --- reading ----------------------------------------------------------------------------------------

    def sessions(self) -> Iterator[SessionSnapshot]:
        """All sessions."""
        after = ("", "")
        while True:
            with self._reading():
                rows = self._run(
                    f"SELECT {_columns(_SESSION)} FROM sessionfleet_sessions WHERE (tenant, session_id) > (?, ?) "
                    f"ORDER BY tenant, session_id LIMIT {_PAGE}",
                    after,
                ).fetchall()
            for row in rows:
                yield SessionSnapshot.model_validate(_loaded(_SESSION, row))
            if len(rows) < _PAGE:
                return
            after = (rows[-1][0], rows[-1][1])

    def turns(self, tenant: str, session_id: str) -> Iterator[ArchivedTurn]:
        """The turns of a session, in their order."""
        after = (-1, -1)
        while True:
            with self._reading():
                rows = self._run(
                    f"SELECT {_columns(_TURN)}, seq FROM sessionfleet_turns WHERE tenant = ? AND session_id = ? "
                    f"AND (at_ms, seq) > (?, ?) ORDER BY at_ms, seq LIMIT {_PAGE}",
                    (tenant, session_id, *after),
                ).fetchall()
            for row in rows:
                values = _loaded(_TURN, row)
                yield ArchivedTurn.model_validate({**values, "count": values["message_count"]})
            if len(rows) < _PAGE:
                return
            after = (rows[-1][_TURN.index("at_ms")], rows[-1][-1])

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- the connection ---------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, digest: str) -> Iterator[None]:
        with self._reading():
            self._run(self._dialect.begin)
            try:
                if self._dialect.lock is not None:
                    self._run(self._dialect.lock, (digest,))
                yield
                self._run("COMMIT")
            except self._dialect.errors:
                self._run("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Connect if necessary. After an error the connection is given up, because it may be broken."""
        try:
            if self._connection is None:
                self._connection = self._dialect.connect()
                for table in _TABLES:
                    self._run(table.format(serial=self._dialect.serial, json=self._dialect.json))
            yield
        except self._dialect.errors as error:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            raise ArchiveUnavailable(f"the archive {self._name} cannot be used now: {error}") from error

    def _run(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        return self._connection.execute(statement.replace("?", self._dialect.mark), parameters)


def _insert(table: str, columns: Sequence[str], action: str, target: str = "ON CONFLICT") -> str:
    marks = ", ".join("?" for _ in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) {target} DO {action}"


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f"CAST({name} AS TEXT)" if name in _JSON else name for name in names)


def _plain(values: dict[str, Any], name: str) -> Any:
    """A value for a column. JSON is ASCII, so that it may contain any character; Postgres has no NUL in texts."""
    if name in _JSON:
        return json.dumps(values[name])
    value = values[name]
    return value.replace("\0", "") if isinstance(value, str) else value


def _loaded(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    found = dict(zip(names, row, strict=False))
    return {name: json.loads(value) if name in _JSON else value for name, value in found.items()}
