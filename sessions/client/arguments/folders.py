"""The documents in a folder, and what else is in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sessions.client.arguments.documents import SUFFIXES
from sessions.errors import BadRequest


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A file in a folder that is added.

    Attributes:
        name: of the document: the path below the folder, so that files of the same name stay apart.
        skipped: why the file is not added; '' if it is.
    """

    path: Path
    name: str
    skipped: str = ""

    @property
    def receipt(self) -> dict[str, Any]:
        """The receipt of a skipped file."""
        return {"source": self.name, "status": "skipped", "reason": self.skipped}


@dataclass(frozen=True, slots=True)
class SameName:
    """A file that would replace another one of the same call."""

    path: Path
    name: str
    other: Path

    @property
    def error(self) -> BadRequest:
        """What to do about it."""
        return BadRequest(
            f"{str(self.path)!r} would replace {str(self.other)!r}, since both have the name {self.name!r}: add a "
            "folder that contains both, or add them one by one with other names"
        )


def files_in(folder: Path) -> Iterator[FolderFile]:
    """The files in a folder and the folders below it, by name. Hidden ones are left out; links to folders skipped."""
    for entry in sorted(folder.iterdir()):
        yield from _found(folder, entry)


def one_of_several(source: object) -> tuple[object, str | None]:
    """What is added of one of `several`, and its name if it is not the usual one.

    Raises:
        BadRequest: it would replace another one of them.
    """
    if isinstance(source, SameName):
        raise source.error
    return (source.path, source.name) if isinstance(source, FolderFile) else (source, None)


def several(sources: Sequence[object]) -> Iterator[object]:
    """The sources, with files instead of folders (given as `Path`), and `SameName` for what would replace another."""
    names: dict[str, Path] = {}
    for source in _expanded(sources):
        file = FolderFile(source, source.name) if isinstance(source, Path) else source
        if isinstance(file, FolderFile) and not file.skipped:
            other = names.setdefault(file.name, file.path)
            if other.absolute() != file.path.absolute():
                yield SameName(file.path, file.name, other)
                continue
        yield source


def _expanded(sources: Sequence[object]) -> Iterator[object]:
    for source in sources:
        if isinstance(source, Path) and source.is_dir():
            yield from files_in(source)
        else:
            yield source


def _found(folder: Path, path: Path) -> Iterator[FolderFile]:
    name = path.relative_to(folder).as_posix()
    if path.name.startswith("."):
        return
    if path.is_dir() and path.is_symlink():
        yield FolderFile(path, name, "a link to a folder")
    elif path.is_dir():
        try:
            below = sorted(path.iterdir())
        except OSError as error:
            yield FolderFile(path, name, f"cannot be opened: {error.strerror}")
            return
        for entry in below:
            yield from _found(folder, entry)
    else:
        yield FolderFile(path, name, _why_not(path))


def _why_not(path: Path) -> str:
    """Why a file in a folder is no document; '' if it is one."""
    if path.suffix.lower() not in SUFFIXES:
        return "not a kind of document"
    if not path.exists():
        return "a broken link"
    if not path.is_file():
        return "not a file"
    return "" if path.stat().st_size else "empty"
