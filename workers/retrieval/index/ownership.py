"""Ownership and identity of the embedded index's folder. Loads no engine, so that any worker can use it.

The lock is a flock, which the kernel releases when its owner exits for whatever reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import uuid
from io import TextIOWrapper
from pathlib import Path

from sessions.errors import IndexLocked

_LOCK = "owner.lock"
_HOME_ID = "home-id"


class IndexLock:
    """Ownership of a folder until `release`. Two locks within one process exclude each other as well."""

    def __init__(self, folder: Path, file: TextIOWrapper) -> None:
        self.folder = folder
        self._file = file

    @property
    def descriptor(self) -> int:
        """The lock's file descriptor, for a child process that must keep the lock if it outlives this process."""
        return self._file.fileno()

    def release(self) -> None:
        """Let another process own the folder."""
        self._file.close()


def try_claim(folder: Path) -> IndexLock | None:
    """Take ownership of the folder, or return None if another process owns it. Creates the folder if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / _LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return IndexLock(folder, file)


def claim(folder: Path) -> IndexLock:
    """Take ownership of the folder.

    Raises:
        IndexLocked: another process owns it.
    """
    if lock := try_claim(folder):
        return lock
    owner = (folder / _LOCK).read_text() or "unknown"
    raise IndexLocked(
        f"the knowledge in {str(folder)!r} is owned by process {owner}: stop it (`sessionfleet down`), run only one "
        "retrieval worker on this machine, or set QDRANT_URL so that several can share a Qdrant server"
    )


def home_id(folder: Path) -> str:
    """An id that distinguishes this folder from those of other machines; created on first use and never changed."""
    path = folder / _HOME_ID
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".home-id-") as file:
            file.write(uuid.uuid4().hex)
            file.flush()
            # Creating a hard link is atomic, and never replaces the file of another process.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(file.name)
    return path.read_text().strip()
