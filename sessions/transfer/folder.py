"""The folder of an exported session, `<session id>/`, and what is in it.

Each file has one kind of records:

state.json                  the session, its agents and its state
history.jsonl               one turn a line
checkpoints.jsonl           one checkpoint a line
memory/memories.jsonl       one memory a line
knowledge/documents.jsonl   documents, each followed by its passages
files/files.jsonl           the files of messages; the bytes of each are next to it, under its id
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any, Final, Self
from urllib.parse import quote

from pydantic import ValidationError

from sessions.errors import InvalidExport
from sessions.transfer.records import (
    AgentRecord,
    CheckpointRecord,
    DocumentRecord,
    End,
    FilePiece,
    FileRecord,
    MemoryRecord,
    PassageRecord,
    PastTurn,
    Record,
    SessionHeader,
    StateRecord,
    checked_sequence,
    dump_record,
    explained,
    load_record,
)

STATE: Final = "state.json"
_FILES: Final = "files"
_LINES: Final[dict[str, tuple[type[Record], ...]]] = {
    "checkpoints.jsonl": (CheckpointRecord,),
    "memory/memories.jsonl": (MemoryRecord,),
    f"{_FILES}/files.jsonl": (FileRecord,),
    "history.jsonl": (PastTurn,),
    "knowledge/documents.jsonl": (DocumentRecord, PassageRecord),
}
_PIECE_BYTES: Final = 256 * 1024
_LONGEST_NAME: Final = 200


def folder_name(session_id: str) -> str:
    """The name of a session's folder: its id, percent-encoded; a very long one is shortened."""
    name = quote(session_id, safe="@:+=,")
    name = "%2E" + name[1:] if name.startswith(".") else name
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{sha256(session_id.encode()).hexdigest()[:16]}"


class FolderWriter:
    """Writes a session's folder. It appears under its name when it is complete, and only its owner can read it.

    Args:
        path: the folder of the session. An earlier export in it is replaced.

    Raises:
        InvalidExport: there is something else under that name.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not _is_export(path):
            raise InvalidExport(f"{str(path)!r} exists and is not an export of a session: choose another folder")
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = Path(mkdtemp(dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".partial"))
        for name in ("memory", "knowledge"):
            (self._partial / name).mkdir(mode=0o700)
        self._stack = ExitStack()
        self._open: dict[str, IO[bytes]] = {}
        self._piece: IO[bytes] | None = None
        self._state: dict[str, Any] = {"agents": {}, "state": {}}

    def write(self, records: Sequence[Record]) -> None:
        """Append records, each to its file."""
        for record in records:
            self._write(record)

    def _write(self, record: Record) -> None:
        match record:
            case SessionHeader():
                self._state = {**record.model_dump(mode="json", exclude={"type"}), **self._state}
            case AgentRecord():
                self._state["agents"][record.name] = record.config
            case StateRecord():
                self._state["state"][record.name] = record.value
            case FilePiece() if self._piece is not None:
                self._piece.write(record.data)
            case End():
                self._state["counts"] = record.counts
            case _:
                name = next(name for name, types in _LINES.items() if isinstance(record, types))
                self._lines(name).write(dump_record(record))
                if isinstance(record, FileRecord):
                    self._begin_file(record)

    def _begin_file(self, record: FileRecord) -> None:
        if self._piece is not None:
            self._piece.close()
        self._piece = (self._partial / _FILES / record.id).open("wb")

    def _lines(self, name: str) -> IO[bytes]:
        if name not in self._open:
            path = self._partial / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._open[name] = self._stack.enter_context(path.open("wb"))
        return self._open[name]

    def finish(self) -> None:
        """Complete the folder, and give it its name."""
        self._close()
        (self._partial / STATE).write_bytes(_readable(self._state) + b"\n")
        if self._path.exists():
            shutil.rmtree(self._path)
        self._partial.rename(self._path)

    def __enter__(self) -> Self:
        return self

    def _close(self) -> None:
        self._stack.close()
        if self._piece is not None:
            self._piece.close()

    def __exit__(self, *_: object) -> None:
        self._close()
        shutil.rmtree(self._partial, ignore_errors=True)


def _readable(state: dict[str, Any]) -> bytes:
    """JSON for people. Half of a surrogate pair cannot be encoded; then everything is escaped."""
    try:
        return json.dumps(state, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(state, indent=2).encode()


def _is_export(path: Path) -> bool:
    return (path / STATE).is_file()


def read_folder(path: Path) -> Iterator[Record]:
    """The records of a session's folder, in the order of a portable file.

    Raises:
        InvalidExport: a file in it is damaged, truncated or missing; the message names file and line.
    """
    return checked_sequence(_records(path), path.name)


def _records(path: Path) -> Iterator[Record]:
    state = _state_of(path)
    name = f"{path.name}/{STATE}"
    yield load_record(json.dumps({**state, "type": "session"}).encode(), name)
    try:
        for agent, config in state.get("agents", {}).items():
            yield AgentRecord(name=agent, config=config)
        for field, value in state.get("state", {}).items():
            yield StateRecord(name=field, value=value)
        end = End(counts=state["counts"])
    except ValidationError as error:
        raise InvalidExport(f"{name}: {explained(error)}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise InvalidExport(f"{name}: it is not complete: {error!r}") from None
    for lines, types in _LINES.items():
        for record in _read_lines(path, lines, types):
            yield record
            if isinstance(record, FileRecord):
                yield from _pieces(path, record)
    yield end


def _state_of(path: Path) -> dict[str, Any]:
    try:
        state = json.loads((path / STATE).read_bytes())
    except ValueError as error:
        raise InvalidExport(f"{path.name}/{STATE}: it is not JSON: {error}") from None
    if not isinstance(state, dict):
        raise InvalidExport(f"{path.name}/{STATE}: it is not an object")
    return state


def _read_lines(path: Path, name: str, types: tuple[type[Record], ...]) -> Iterator[Record]:
    if not (path / name).exists():
        return
    with (path / name).open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path.name}/{name}, line {number}"
            record = load_record(line, place)
            if not isinstance(record, types):
                raise InvalidExport(f"{place}: a record of the type {record.type!r} does not belong here")
            yield record


def _pieces(path: Path, file: FileRecord) -> Iterator[FilePiece]:
    stored = path / _FILES / file.id
    if not stored.exists():
        raise InvalidExport(f"{path.name}/{_FILES}/{file.id}: the file is missing")
    with stored.open("rb") as content:
        while piece := content.read(_PIECE_BYTES):
            yield FilePiece.of(piece)
