"""What is imported: finds out which format a path or an address has, and reads it as records."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sessions.errors import BadRequest, InvalidExport
from sessions.transfer import google_adk, openai_agents
from sessions.transfer.conversation import DEFAULT_AGENT, LeftOut
from sessions.transfer.folder import STATE, folder_name, read_folder
from sessions.transfer.media import with_files
from sessions.transfer.portable import read_lines
from sessions.transfer.praisonai import is_praisonai, read_praisonai
from sessions.transfer.pydantic_ai import is_messages, read_messages
from sessions.transfer.records import End, FilePiece, Record, SessionHeader, dump_record
from sessions.transfer.sqlite import MAGIC, tables_of

KNOWN: Final = (
    "an export of Sessionfleet (a .jsonl file, or a folder with state.json), a session JSON of PraisonAI, the SQLite "
    "file or Redis of the OpenAI Agents SDK, a SQLite file of Google ADK, or messages of pydantic-ai as JSON"
)
_HEAD: Final = 512
_EXPORT: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"session"')
_LARGEST_JSON: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """A session to import.

    Attributes:
        format: the format's name, for people.
        read: yields the records from the beginning, each time it is called.
        left_out: what cannot be carried over, once they were read.
    """

    format: str
    read: Callable[[], Iterator[Record]]
    left_out: LeftOut = field(default_factory=LeftOut)

    def records(self) -> Iterator[Record]:
        """The records, from the session's to the end's."""
        self.left_out.clear()
        return self.read()


def inspected(source: Source) -> tuple[SessionHeader, bytes]:
    """The session's own record, and a digest of all records. Reads everything, and so checks it.

    A repeated import is recognised by the digest.

    Raises:
        InvalidExport: a record is damaged, or the source is not complete.
    """
    header, digest = SessionHeader(), hashlib.sha256()
    for record in source.records():
        if isinstance(record, SessionHeader):
            header = record
        digest.update(dump_record(record))
    return header, digest.digest()


def open_source(path: str | Path, *, from_session: str | None = None, agent: str | None = None) -> Source:
    """The session at a path or an address.

    Args:
        path: a file, a folder, or the address of a Redis.
        from_session: which one, if there are several.
        agent: the name for turns whose agent is not named there.

    Raises:
        BadRequest: there is nothing, or several sessions. InvalidExport: the format is not known.
    """
    named = agent or DEFAULT_AGENT
    if isinstance(path, str) and openai_agents.is_redis(path):
        return _foreign(
            "a Redis of the OpenAI Agents SDK",
            lambda left_out: openai_agents.read_redis(path, from_session, left_out, named),
        )
    where = Path(path)
    if where.is_dir():
        return _folder(where, from_session)
    if not where.is_file():
        raise BadRequest(f"{str(path)!r} is neither a file nor a folder: there is nothing to import")
    if where.name == STATE:
        return _folder(where.parent, None)
    with where.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(MAGIC):
        return _sqlite(where, from_session, named)
    if _EXPORT.match(head):
        return Source("an export of Sessionfleet", lambda: read_lines(where))
    return _json(where, named)


def items_source(session_id: str, items: Sequence[dict[str, Any]], agent: str) -> Source:
    """A session from items of OpenAI's Responses API, which a client has."""
    now = round(time.time() * 1000)
    return _foreign(
        "items of OpenAI's Responses API",
        lambda left_out: openai_agents.read_items(session_id, items, now, left_out, agent),
    )


def _folder(where: Path, from_session: str | None) -> Source:
    folder = where if from_session is None else where / folder_name(from_session)
    if (folder / STATE).is_file():
        return Source("a folder of Sessionfleet", lambda: read_folder(folder))
    if from_session is not None:
        raise BadRequest(f"{str(folder)!r} is not there, or has no {STATE}")
    sessions = sorted(state.parent for state in where.glob(f"*/{STATE}"))
    if len(sessions) == 1:
        return Source("a folder of Sessionfleet", lambda: read_folder(sessions[0]))
    if not sessions:
        raise InvalidExport(f"{str(where)!r} has no {STATE}. What can be imported: {KNOWN}")
    raise BadRequest(
        f"{str(where)!r} has {len(sessions)} sessions: name the folder of one, such as {str(sessions[0])!r}"
    )


def _sqlite(where: Path, from_session: str | None, agent: str) -> Source:
    tables = tables_of(where)
    if tables.keys() >= openai_agents.TABLES:
        return _foreign(
            "a SQLite file of the OpenAI Agents SDK",
            lambda left_out: openai_agents.read_sqlite(where, from_session, left_out, agent),
        )
    if tables.keys() >= google_adk.TABLES:
        if google_adk.COLUMN not in tables["events"]:
            raise InvalidExport(
                f"{where.name}: it has the old schema of Google ADK, in which events are pickles: migrate it with "
                "`adk migrate session` first"
            )
        return _foreign(
            "a SQLite file of Google ADK", lambda left_out: google_adk.read_adk(where, from_session, left_out, agent)
        )
    raise InvalidExport(f"{where.name}: a SQLite file with the tables {sorted(tables)}. What can be imported: {KNOWN}")


def _json(where: Path, agent: str) -> Source:
    value = _loaded(where)
    if is_messages(value):
        return _foreign("messages of pydantic-ai", lambda left_out: read_messages(value, where.name, left_out, agent))
    if is_praisonai(value):
        return _foreign(
            "a session JSON of PraisonAI", lambda left_out: read_praisonai(value, where.name, left_out, agent)
        )
    raise InvalidExport(f"{where.name}: the format is not known. What can be imported: {KNOWN}")


def _loaded(where: Path) -> Any:
    if where.stat().st_size > _LARGEST_JSON:
        raise InvalidExport(f"{where.name}: it has more than {_LARGEST_JSON:,} bytes of JSON: too large to import")
    try:
        return json.loads(where.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidExport(f"{where.name}: it is not JSON ({error}). What can be imported: {KNOWN}") from None


def _foreign(name: str, read: Callable[[LeftOut], Iterator[Record]]) -> Source:
    left_out = LeftOut()
    return Source(name, lambda: _ended(with_files(read(left_out), left_out)), left_out)


def _ended(records: Iterator[Record]) -> Iterator[Record]:
    """The records, with the one that our own formats have at their end."""
    counts: Counter[str] = Counter()
    for record in records:
        if not isinstance(record, FilePiece):
            counts[record.type] += 1
        yield record
    yield End(counts=dict(counts))
