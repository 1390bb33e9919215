"""The fleet of a plain script: found, started in the background, or restarted if its settings differ.

`sessionfleet up` starts a fleet by hand, in the foreground; a script uses that one as it is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from broker_config.embedded import EmbeddedServer, resolved
from broker_config.printable import printable
from broker_config.settings import Settings
from sessions.errors import EmbeddedServerError, StoreUnavailable
from sessions.fleet.home import (
    Fingerprint,
    FleetHome,
    FleetRecord,
    alive,
    differences,
    end_processes,
    fingerprint,
)
from sessions.fleet.process import SPAWN, child_environment, need, open_log
from sessions.fleet.supervisor import REPLACE
from sessions.own_packages import own_program

__all__ = ["FleetInfo", "ensure_fleet", "resolved", "stop_fleet"]

WORKERS = 2
# How long a fleet may take until its first worker is ready; a script's imports may be slow.
START_LIMIT = 60.0


@dataclass(frozen=True, slots=True)
class FleetInfo:
    """The fleet that serves a script.

    Attributes:
        settings: with the addresses of its server filled in.
        started: this call started it.
    """

    home: Path
    pid: int
    workers: int
    autostarted: bool
    started: bool
    settings: Settings


def ensure_fleet(settings: Settings) -> FleetInfo:
    """Find the embedded fleet of these settings, or start it in the background; wait for a first worker.

    Call it before each use: if the fleet is running this costs microseconds, and a fleet that stopped because it was
    idle is started again.

    Raises:
        StoreUnavailable: there is no REDIS_URL, and SESSIONFLEET_AUTOSTART is off.
        EmbeddedServerError: the fleet cannot be started; the message has the end of its log.
        MissingExtra: workers are not installed here.
    """
    if not settings.autostart:
        raise StoreUnavailable(
            "REDIS_URL is not set, and SESSIONFLEET_AUTOSTART=0 prevents starting a fleet: set REDIS_URL"
        )
    home = FleetHome(settings.home)
    known_as = _fingerprint_here(settings, Path.cwd())
    record = home.running()
    if record is not None and record.state == "ready" and _fits(record, known_as):
        return _info(home, record, settings, started=False)
    home.prepare()
    with home.starting():
        record = _settled(home, known_as)
        started = record is None
        if record is None:
            record = _start(home, settings, known_as)
    return _info(home, record, settings, started=started)


def stop_fleet(home_path: Path) -> list[str]:
    """Stop every process of a home; returns a line for each thing that was stopped."""
    home, server = FleetHome(home_path), EmbeddedServer(home_path)
    stopped = []
    record = home.running()
    if record is not None:
        psutil.Process(record.pid).terminate()
        stopped.append(f"fleet stopped (process {record.pid}, {record.workers} workers)")
        if not _await_end(record):
            end_processes([psutil.Process(record.pid)], 1.0)
    left = home.worker_processes()
    if left:
        end_processes(left, record.stop_within if record else 30.0)
        stopped.append(f"{len(left)} workers stopped")
    server_pid = server.pid()
    if server.stop():
        stopped.append(f"server stopped (process {server_pid})")
    return stopped


def _info(home: FleetHome, record: FleetRecord, settings: Settings, *, started: bool) -> FleetInfo:
    if not record.embedded:
        raise EmbeddedServerError(
            f"the fleet of {str(home.path)!r} (process {record.pid}) was started with a REDIS_URL: set the same "
            "REDIS_URL here, or run `sessionfleet down`"
        )
    return FleetInfo(home.path, record.pid, record.workers, record.autostarted, started, resolved(settings))


def _fits(record: FleetRecord, known_as: Fingerprint) -> bool:
    """Whether a script can use this fleet: one that was started by hand is used as it is."""
    if record.fingerprint == known_as:
        return True
    if not record.autostarted:
        _say_once(
            f"this script differs from the fleet of `sessionfleet up` (process {record.pid}) in: "
            f"{differences(record.fingerprint, known_as)}; the fleet is used as it is"
        )
        return True
    return False


def _settled(home: FleetHome, known_as: Fingerprint) -> FleetRecord | None:
    """The running fleet that fits, once it is ready; None if one must be started."""
    limit = time.monotonic() + START_LIMIT
    while (record := home.running()) is not None:
        # One that is stopping is waited for: it ends within its own limits, or continues for a turn that came in.
        if record.state != "stopping":
            if not _fits(record, known_as):
                _replace(home, record, known_as)
            elif record.state == "ready" or time.monotonic() > limit:
                return record
        time.sleep(0.02)
    return None


def _replace(home: FleetHome, record: FleetRecord, known_as: Fingerprint) -> None:
    what = differences(record.fingerprint, known_as)
    _say(f"restarting the background fleet: {what} changed")
    psutil.Process(record.pid).send_signal(REPLACE)
    if not _await_end(record):
        end_processes([psutil.Process(record.pid)], 1.0)


def _start(home: FleetHome, settings: Settings, known_as: Fingerprint) -> FleetRecord:
    need("pydantic_ai")
    _say(
        f"starting a local fleet in the background ({WORKERS} workers, home {str(home.path)!r}); it stops after "
        f"{settings.idle_shutdown:g} idle seconds, or with `sessionfleet down`"
    )
    pid = _launch(home, settings, known_as)
    limit = time.monotonic() + START_LIMIT
    while True:
        record = home.running()
        if record is not None and record.state == "ready":
            return record
        if record is None and not alive(pid):
            log = _log(home)
            raise EmbeddedServerError(f"the background fleet exited at once; {str(log)!r} says:\n{_tail(log)}")
        if record is not None and time.monotonic() > limit:
            _say(f"no worker is ready after {START_LIMIT:g} s; see {str(home.logs)!r}")
            return record
        time.sleep(0.02)


def _launch(home: FleetHome, settings: Settings, known_as: Fingerprint) -> int:
    """Start `sessionfleet up` in the background; returns its process id."""
    parts = [f"{part}={digest}" for part, digest in known_as.items()]
    fleet = own_program("sessions.cli.main", "up", "--home", str(home.path))
    options = ["--workers", str(WORKERS), "--background", ";".join(parts)]
    command = [sys.executable, "-S", SPAWN, "detach", *fleet, *options]
    with open_log(_log(home)) as log:
        starter = subprocess.run(
            command, env=child_environment(settings), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=log, check=True,
        )  # fmt: skip
    return int(starter.stdout)


def _await_end(record: FleetRecord) -> bool:
    """Wait for the process itself: it releases the home a moment before it is gone."""
    limit = time.monotonic() + record.stop_within + 20.0
    while alive(record.pid):
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def _log(home: FleetHome) -> Path:
    return home.logs / "fleet.log"


def _tail(log: Path) -> str:
    return printable("\n".join(log.read_text(errors="replace").split("\n")[-16:]).rstrip())


@lru_cache(maxsize=4)
def _fingerprint_here(settings: Settings, _folder: Path) -> Fingerprint:
    """Once for each settings and folder: a running script does not change, and this is asked often."""
    return fingerprint(settings)


def _say(line: str) -> None:
    print(f"sessionfleet: {printable(line)}", file=sys.stderr)  # noqa: T201


@lru_cache(maxsize=16)
def _say_once(line: str) -> None:
    _say(line)
