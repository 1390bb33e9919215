"""The address of an archive: `sqlite:///path`, `postgresql://...`, `jsonl:/path`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from broker_config.redis_url import without_secrets
from sessions.archive.jsonl import JsonlArchive
from sessions.archive.records import Archive
from sessions.archive.sql import Dialect, SqlArchive
from sessions.errors import BadRequest, MissingExtra

_SECONDS: Final = 10.0
_POSTGRES: Final = ("postgresql://", "postgres://")


def open_archive(address: str) -> Archive:
    """The archive at an address. It connects when it is first used.

    Raises:
        BadRequest: the address has none of the known forms. MissingExtra: the driver is not installed.
    """
    if address.startswith("sqlite:///"):
        return _sqlite(Path(address.removeprefix("sqlite:///")))
    if address.startswith("jsonl:"):
        return JsonlArchive(Path(address.removeprefix("jsonl:").removeprefix("//")))
    if address.startswith(_POSTGRES):
        return _postgres(address)
    raise BadRequest(
        f"archive {without_secrets(address)!r}: use sqlite:///<path>, postgresql://<user>@<host>/<database> or "
        "jsonl:<path>"
    )


def _sqlite(path: Path) -> Archive:
    def connect() -> Any:
        connection = sqlite3.connect(path, timeout=_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    dialect = Dialect(
        connect,
        (sqlite3.Error, OSError),
        serial="INTEGER PRIMARY KEY AUTOINCREMENT",
        json="TEXT",
        mark="?",
        begin="BEGIN IMMEDIATE",
        lock=None,
    )
    return SqlArchive(dialect, repr(str(path)))


def _postgres(address: str) -> Archive:
    try:
        import psycopg  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise MissingExtra(
            "an archive in Postgres needs the extra `archive`: pip install 'sessionfleet[archive]'"
        ) from error

    def connect() -> Any:
        return psycopg.connect(address, connect_timeout=int(_SECONDS), autocommit=True)

    dialect = Dialect(
        connect,
        (psycopg.Error, OSError),
        serial="BIGSERIAL PRIMARY KEY",
        json="JSON",
        mark="%s",
        begin="BEGIN",
        lock="SELECT pg_advisory_xact_lock(hashtextextended(?, 0))",
    )
    return SqlArchive(dialect, without_secrets(address))
