"""The portable file: the records of a session as JSON lines, one record a line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import mkstemp
from typing import Final, Self

from sessions.errors import InvalidExport
from sessions.transfer.records import Record, checked_sequence, dump_record, load_record

SUFFIX: Final = ".jsonl"
LONGEST_LINE: Final = 512 * 1024 * 1024


def read_lines(path: Path, name: str | None = None) -> Iterator[Record]:
    """The records of a portable file, in order, after checks of each and of the whole.

    Args:
        path: the file.
        name: its name in errors; None for its own.

    Raises:
        InvalidExport: the file is damaged, truncated or of a newer version; the message names the line.
    """
    shown = name or path.name
    return checked_sequence(_records(path, shown), shown)


def _records(path: Path, name: str) -> Iterator[Record]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            place = f"{name}, line {number}"
            if not line.endswith(b"\n"):
                raise InvalidExport(f"{place}: the export is not complete: the line has no end")
            if line.strip():
                yield load_record(line, place)


class PortableWriter:
    """Writes a portable file. It appears under its name when it is complete, and only its owner can read it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        descriptor, name = mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".partial")
        self._partial = Path(name)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, records: Sequence[Record]) -> None:
        """Append records."""
        self._file.write(b"".join(map(dump_record, records)))

    def finish(self) -> None:
        """Make the file durable, and give it its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)
