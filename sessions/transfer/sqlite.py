"""SQLite files of other libraries: opened read-only, with errors that name the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sessions.errors import BadRequest, InvalidExport

MAGIC: Final = b"SQLite format 3\0"
_SHOWN: Final = 5


@contextmanager
def readable(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a file.

    Raises:
        InvalidExport: SQLite cannot read it.
    """
    try:
        # The file may be read by one thread after another: an import reads it in a thread pool.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)) as found:
            yield found
    except sqlite3.Error as error:
        raise InvalidExport(f"{path.name}: SQLite cannot read it: {error}") from None


def tables_of(path: Path) -> dict[str, set[str]]:
    """The tables of a file, with their columns."""
    with readable(path) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: {row[1] for row in database.execute(f"PRAGMA table_info({_quoted(name)})")} for name in names}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def chosen(found: Sequence[str], wanted: str | None, name: str) -> str:
    """The session that is meant.

    Raises:
        BadRequest: there is none, or several and none was named.
    """
    if wanted is not None and wanted in found:
        return wanted
    shown = ", ".join(map(repr, found[:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
    if not found:
        raise BadRequest(f"{name} has no session")
    if wanted is not None:
        raise BadRequest(f"{name} has no session {wanted!r}; it has {shown}")
    if len(found) > 1:
        raise BadRequest(
            f"{name} has {len(found)} sessions ({shown}): pass the id of one as from_session= (`--from-session`)"
        )
    return found[0]
