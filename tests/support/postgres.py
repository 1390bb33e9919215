"""A Postgres of a test's own, from the programs of this machine (Debian: apt-get install postgresql)."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import free_port
from tests.support.waiting import wait_until


def programs() -> Path | None:
    """The folder with its programs, of the newest version; None if there is none."""
    on_path = shutil.which("pg_ctl")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return folders[-1] if folders else None if on_path is None else Path(on_path).parent


class Postgres:
    """A server on a port of its own. It may be stopped and started again."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self._folder = folder
        self._bin = bin_folder
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make the database."""
        if os.getuid() == 0:  # it refuses to run as root
            owner = pwd.getpwnam("postgres")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self._folder}"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-l", log, "-o", options, "-w", "start")
        wait_until(self._answers, description="Postgres answers")

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")

    def _answers(self) -> bool:
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        as_its_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        # No pipes: the server would keep them open.
        subprocess.run(
            [*as_its_user, str(self._bin / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            timeout=60,
        )


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that answers; skips the test where there is no Postgres."""
    found = programs()
    if found is None:
        pytest.skip("there is no Postgres on this machine (Debian: apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="sf-postgres-", dir="/tmp") as folder:
        server = Postgres(Path(folder), found)
        server.create()
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()
