"""The files of a collection of the embedded engine: its description, syncing to disk, and errors about damage."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sessions.errors import IndexUnavailable
from workers.retrieval.index.records import FORMAT
from workers.retrieval.ports import EmbeddingInfo

ABOUT: Final = "collection.json"


def read_info(folder: Path) -> EmbeddingInfo:
    """The model of a collection's vectors.

    Raises:
        IndexUnavailable: the file is damaged, or was written by a newer version of Sessionfleet.
    """
    try:
        read = json.loads((folder / ABOUT).read_text())
        version, info = read["format"], EmbeddingInfo(read["model"], read["dimension"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, f"{ABOUT} cannot be read: {error}") from error
    if version != FORMAT:
        raise IndexUnavailable(
            f"the knowledge in {str(folder)!r} has the format {version!r}, and this version of Sessionfleet reads "
            f"{FORMAT}; use the version that wrote it, or move the folder away and add the documents again"
        )
    return info


def has_codes(data: Path, vectors: str) -> bool:
    """Whether all segments of a shard have codes of these vectors (see `points`)."""
    segments = list((data / "segments").glob("*"))
    return all((segment / f"vector_storage-{vectors}" / "quantized.config.json").exists() for segment in segments)


def damaged(folder: Path, reason: str) -> IndexUnavailable:
    """The error for a folder with damaged data."""
    return IndexUnavailable(
        f"the knowledge in {str(folder)!r} is damaged ({reason}); restore a copy of the folder, or move it away and "
        "add the documents again"
    )


@contextlib.contextmanager
def translate_errors(folder: Path) -> Iterator[None]:
    """Translate the engine's errors, which have no classes of their own, and its panics, which are BaseExceptions."""
    try:
        yield
    except IndexUnavailable:
        raise
    except BaseException as error:
        if "WouldBlock" in str(error):
            raise IndexUnavailable(f"another process still has {str(folder)!r} open; try again in a moment") from error
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise damaged(folder, " ".join(str(error).split())) from error
        raise


def fsync(path: Path) -> None:
    """Sync a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
