"""Checks the files of models: another file of the same name would compute different vectors."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sessions.errors import EmbeddingFailed


def checked_hash(path: Path, sha256: str | None, remedy: str) -> str:
    """The SHA-256 of a file.

    Args:
        path: the file.
        sha256: the expected one; None to accept any.
        remedy: what to do about a missing or wrong file, for the error.

    Raises:
        EmbeddingFailed: the file cannot be read, or has another hash.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbeddingFailed(f"{str(path)!r} cannot be read ({error.strerror}); {remedy}") from error
    if sha256 is not None and found != sha256:
        raise EmbeddingFailed(f"{str(path)!r} has the sha256 {found!r}, and must have {sha256!r}; {remedy}")
    return found
