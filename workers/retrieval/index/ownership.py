"""The folder of the embedded index: who owns it, and which it is. Loads no engine, so that any worker may ask.

The lock is a flock: the kernel gives it back when its owner dies, however it dies.
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
    """Owns a folder as long as it is open. Two opens within one process exclude each other too."""

    def __init__(self, folder: Path, file: TextIOWrapper) -> None:
        self.folder = folder
        self._file = file

    @property
    def descriptor(self) -> int:
        """For a child that is to hold the lock as well, should it outlive this process."""
        return self._file.fileno()

    def release(self) -> None:
        """Let another process own the folder."""
        self._file.close()


def try_claim(folder: Path) -> IndexLock | None:
    """Own the folder, or None where another process does. The folder is made if need be."""
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
    """Own the folder.

    Raises:
        IndexLocked: another process does.
    """
    if lock := try_claim(folder):
        return lock
    owner = (folder / _LOCK).read_text() or "unknown"
    raise IndexLocked(
        f"the knowledge in {str(folder)!r} belongs to the process {owner}; stop that one (`sessionfleet down`), let it "
        "be the only retrieval worker of this machine, or set QDRANT_URL to let many share a Qdrant server"
    )


def home_id(folder: Path) -> str:
    """What tells this folder's knowledge from another machine's; made on first use, never changed."""
    path = folder / _HOME_ID
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".home-id-") as file:
            file.write(uuid.uuid4().hex)
            file.flush()
            # A link is made whole or not at all, and never over another process's.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(file.name)
    return path.read_text().strip()
