"""The embedded server: a real Valkey on a unix socket under `home`, used when REDIS_URL is not set.

Owns the server's process and files (`server.sock`, `server.pid`, `server.conf`, `store/`, `logs/server.log`).
It does not own workers: `sessions/fleet/supervisor.py` does. The server runs detached, so that it survives its
starter and a Ctrl-C in the terminal; `stop()` ends it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker_config.server_binary import EmbeddedServerError, check_marker, find_binary, write_marker
from broker_config.settings import Settings

__all__ = ["EmbeddedServer", "EmbeddedServerError", "prepare_home", "resolved"]

# sockaddr_un holds 108 bytes with the NUL on Linux and 104 on macOS.
SOCKET_PATH_LIMIT = 100
# How long a running server may not answer. A server that says LOADING (a long AOF) is waited for.
SILENCE_LIMIT = 10.0
STOP_LIMIT = 15.0
_IGNORE = "# The home of an embedded Sessionfleet: data and logs of this machine.\n*\n"

# `set-proc-title no` keeps the configuration's path in the command line, which identifies a process id as ours.
_CONFIG = """\
daemonize yes
set-proc-title no
port 0
unixsocket {socket}
unixsocketperm 700
pidfile {pidfile}
logfile {log}
dir {data}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


def prepare_home(home: Path) -> None:
    """Create the home: for this user only, and ignored by git.

    Raises:
        EmbeddedServerError: it contains other files, which we would hide from git, or it cannot be created.
    """
    ignore = home / ".gitignore"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ignore.open("x") as file:
            file.write(_IGNORE)
    except FileExistsError as error:
        if not home.is_dir():
            raise EmbeddedServerError(f"{str(home)!r} is not a folder; set SESSIONFLEET_HOME") from error
        if ignore.read_text() not in ("", _IGNORE):  # empty: another process is writing it right now
            raise _foreign(home) from error
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot write to {str(home)!r} ({error.strerror}); set SESSIONFLEET_HOME to a folder that you own"
        ) from error
    else:
        if not _is_home(home):
            ignore.unlink()
            raise _foreign(home)
    home.chmod(0o700)
    for folder in ("store", "logs"):
        (home / folder).mkdir(mode=0o700, exist_ok=True)


def _is_home(home: Path) -> bool:
    names = {entry.name for entry in home.iterdir()} - {".gitignore"}
    return not names or "store" in names


def _foreign(home: Path) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"{str(home)!r} contains other files and is not the home of an embedded fleet; set SESSIONFLEET_HOME to an "
        "empty folder or one that does not exist yet"
    )


def resolved(settings: Settings) -> Settings:
    """The settings with both addresses filled in: the embedded server's if REDIS_URL is not set.

    The copy has `embedded == False`; the original says whether a fleet has to be started.
    """
    store = settings.redis_url or EmbeddedServer(settings.home).redis_url
    return settings.model_copy(update={"redis_url": store, "broker_url": settings.broker_url or store})


class EmbeddedServer:
    """The server of one home. Holds no connection and no state: any number of these may exist for a home."""

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().resolve()
        self.log = self.home / "logs" / "server.log"
        self._config = self.home / "server.conf"
        self._pidfile = self.home / "server.pid"
        self._marker = self.home / "store" / "server.json"

    @property
    def socket_path(self) -> Path:
        """In the home, or in our own folder in the temporary folder if the path would be too long for a socket."""
        path = self.home / "server.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sessionfleet-{os.getuid()}-{digest}" / "server.sock"

    @property
    def redis_url(self) -> str:
        """The server's URL, for store and broker."""
        return f"unix://{quote(str(self.socket_path))}"

    def is_running(self) -> bool:
        """Whether the server answers."""
        return self._ping() == "ready"

    def pid(self) -> int | None:
        """The server's process id; None if no server of this home is running."""
        process = self._process()
        return process.pid if process else None

    def ensure_started(self) -> bool:
        """Start the server unless it is running, and wait until it answers.

        If several processes or threads call this at once, one starts the server and the others wait.

        Returns:
            True if this call started it.

        Raises:
            EmbeddedServerError: it cannot be started; the message has the last lines of its log.
        """
        if self.is_running():
            return False
        prepare_home(self.home)
        self._prepare_socket_folder()
        with self._lock():
            if started := self._process() is None:
                self._launch()
            self._await_answer()
            return started

    def stop(self) -> bool:
        """Stop the server once it has written its append-only file; False if none was running."""
        if not self.home.is_dir():
            return False
        with self._lock():
            process = self._process()
            if process is None:
                return False
            process.terminate()
            if not self._await_end():
                process.kill()
                self._await_end()
            return True

    def log_tail(self, lines: int = 8) -> str:
        """The last lines of the server's log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(there is no log)"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One starter or stopper at a time, threads included: flock belongs to the open file, not to the process."""
        with (self.home / "server.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _launch(self) -> None:
        binary = find_binary()
        check_marker(self._marker, binary)
        config = _CONFIG.format(
            socket=_quoted(self.socket_path),
            pidfile=_quoted(self._pidfile),
            log=_quoted(self.log),
            data=_quoted(self._marker.parent),
        )
        self._config.write_text(config)
        self._pidfile.unlink(missing_ok=True)
        command = [str(binary.path), str(self._config)]
        run = subprocess.run(command, capture_output=True, text=True, cwd=self.home, check=False)
        if run.returncode != 0:
            raise self._failure(f"exited with {run.returncode}: {(run.stderr or run.stdout).strip()}")
        write_marker(self._marker, binary)

    def _await_answer(self) -> None:
        silent_until = time.monotonic() + SILENCE_LIMIT
        while (state := self._ping()) != "ready":
            now = time.monotonic()
            if state == "loading":
                silent_until = now + SILENCE_LIMIT
            elif now > silent_until:
                raise self._failure("does not answer")
            elif self._has_ended():
                raise self._failure("exited at once")
            time.sleep(0.01)

    def _has_ended(self) -> bool:
        """Whether the server that was just started is gone, rather than about to write its process id."""
        written = self._pidfile.exists() and self._pidfile.read_text().strip()
        return bool(written) and self._process() is None

    def _await_end(self) -> bool:
        # Not `process.wait()`: in a container the first process may never reap it; for us a zombie has ended.
        limit = time.monotonic() + STOP_LIMIT
        while self._process() is not None:
            if time.monotonic() > limit:
                return False
            time.sleep(0.01)
        return True

    def _ping(self) -> str:
        """`ready`, `loading` (it reads its data) or `absent`."""
        path = self.socket_path
        if not path.exists():
            return "absent"
        client = redis.Redis(unix_socket_path=str(path), socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        try:
            client.ping()
        except redis.BusyLoadingError:
            return "loading"
        except redis.RedisError:
            return "absent"
        finally:
            client.close()
        return "ready"

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int(self._pidfile.read_text()))
            # The process id may belong to another program by now; a zombie is dead although it was not reaped yet.
            ours = str(self._config) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.Error):
            return None
        return process if ours else None

    def _prepare_socket_folder(self) -> None:
        folder = self.socket_path.parent
        if folder == self.home:
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # The temporary folder is shared: another user may have created this name first, to read what we send.
        private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
        if not private or found.st_uid != os.getuid():
            raise EmbeddedServerError(
                f"{str(folder)!r} is not a folder that only you own; remove it, or set SESSIONFLEET_HOME to a "
                "shorter path"
            )

    def _failure(self, what: str) -> EmbeddedServerError:
        pid = self.pid()
        advice = f"process {pid} holds this home: type `sessionfleet down`" if pid else "fix what the log says"
        return EmbeddedServerError(
            f"the embedded server of {str(self.home)!r} {what}; {advice}. "
            f"The last lines of {str(self.log)!r}:\n{self.log_tail()}"
        )


def _quoted(path: Path) -> str:
    """A path as the server's configuration reads it."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
