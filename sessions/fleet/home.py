"""What a home knows about its fleet: whether one is running, since when, and with which settings it was started.

The supervisor holds `fleet.lock` for as long as it runs, so that a fleet that was killed never looks alive, whatever
happened to its process id. `fleet.json` has the details. `start.lock` lets one script at a time start a fleet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import psutil
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from broker_config.embedded import EmbeddedServerError as ServerError
from broker_config.embedded import prepare_home
from broker_config.settings import Settings, variable
from broker_config.version import package_version
from sessions.errors import EmbeddedServerError, FleetRunning

_PROVIDER = re.compile(r"(_API_KEY|_API_TOKEN|_BASE_URL|_ENDPOINT)$|^(AWS|AZURE|GOOGLE|VERTEX)_")
# Settings of the fleet itself (`home`), without effect on a running fleet, or covered separately (`imports`).
_NOT_COMPARED = {"home", "autostart", "imports"}
_NOT_COMPARED |= {name for name in Settings.model_fields if name.startswith("gateway_")}  # workers read none of these

Fingerprint = dict[str, str]


class FleetRecord(BaseModel):
    """What a running fleet records about itself in `fleet.json`.

    Attributes:
        autostarted: a script started it, and a script may restart it with other settings.
        embedded: it uses the home's own server, not a REDIS_URL.
        stop_within: seconds within which it stops after a SIGTERM.
    """

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    pid: int
    state: Literal["starting", "ready", "stopping"]
    autostarted: bool
    embedded: bool
    workers: int
    stop_within: float
    fingerprint: Fingerprint


class FleetHome:
    """The files of a home that concern its fleet."""

    def __init__(self, home: Path) -> None:
        self.path = home.expanduser().resolve()
        self.logs = self.path / "logs"
        self.tag = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:8]

    def prepare(self) -> None:
        """Create the folder.

        Raises:
            EmbeddedServerError: it cannot be created, or contains other files.
        """
        try:
            prepare_home(self.path)
        except ServerError as error:
            raise EmbeddedServerError(str(error)) from error

    def running(self) -> FleetRecord | None:
        """The record of the running fleet; None if none is running. Costs a few system calls."""
        try:
            with (self.path / "fleet.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return self._record()
        return None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Become the supervisor of this home.

        Raises:
            FleetRunning: it has one already.
        """
        with (self.path / "fleet.lock").open("a") as lock:
            self._take(lock)
            try:
                yield
            finally:
                (self.path / "fleet.json").unlink(missing_ok=True)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Become the only process that starts or replaces this home's fleet."""
        with (self.path / "start.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def write(self, record: FleetRecord) -> None:
        """Write the record; readers see the old or the new one, never half of one."""
        new = self.path / "fleet.json.new"
        new.write_text(record.model_dump_json(indent=1) + "\n")
        new.replace(self.path / "fleet.json")

    def worker_name(self, name: str) -> str:
        """The node name of a worker of this home; its tag lets `down` find the process in any case."""
        return f"{name}.{self.tag}@%h"

    def worker_processes(self, name: str = r"[\w-]+") -> list[psutil.Process]:
        """Processes of this home's workers, found by their command lines."""
        pattern = re.compile(rf"(^|\s|\[celeryd: ){name}\.{self.tag}@")
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and pattern.search(" ".join(process.cmdline())):
                    found.append(process)
        return [process for process in found if alive(process.pid)]

    def _take(self, lock: IO[str]) -> None:
        # A process that only looks (`running`) holds the lock for some microseconds.
        for _ in range(20):
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.01)
        record = self._record()
        pid = f" (process {record.pid})" if record else ""
        raise FleetRunning(
            f"a fleet of {str(self.path)!r} is already running{pid}; run `sessionfleet down` to stop it, or set "
            "SESSIONFLEET_HOME to start another one"
        )

    def _record(self) -> FleetRecord | None:
        try:
            record = FleetRecord.model_validate_json((self.path / "fleet.json").read_text())
        except (FileNotFoundError, ValidationError):  # it is starting or stopping right now
            return None
        return record if alive(record.pid) else None


def alive(pid: int) -> bool:
    """Whether a process is running. A zombie is not: in a container the first process may never reap it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def end_processes(processes: list[psutil.Process], within: float) -> None:
    """Ask processes to end, wait, and kill those that do not."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.Error):
                process.send_signal(sent)
        limit = time.monotonic() + within
        while (processes := [p for p in processes if alive(p.pid)]) and time.monotonic() < limit:
            time.sleep(0.02)
        if not processes:
            return


def settings_environment(settings: Settings) -> dict[str, str]:
    """The environment that makes a process read these same settings."""
    environment = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is not None:
            environment[variable(name)] = _as_variable(value)
    return environment


def _as_variable(value: object) -> str:
    match value:
        case tuple():
            return ",".join(map(str, value))
        case SecretStr():
            return value.get_secret_value()
        case _:
            return str(value)


def fingerprint(settings: Settings) -> Fingerprint:
    """Everything that a worker's behaviour depends on, part by part, as digests: keys are secret, the file is not."""
    keys = {name: value for name, value in os.environ.items() if _PROVIDER.search(name)}
    parts = {
        "encryption keys": _revealed(settings.encryption_keys),
        "webhook secrets": _revealed(settings.webhook_secrets),
        "settings": settings.model_dump_json(exclude=_NOT_COMPARED),
        "provider keys": json.dumps(keys, sort_keys=True),
        "imports": json.dumps([(name, _module_stamp(name)) for name in settings.imports]),
        "working directory": str(Path.cwd()),
        # Not sys.executable: `python` and `python3` of one environment are the same to a worker.
        "interpreter": f"{sys.prefix} {sys.version}",
        "package version": package_version(),
    }
    return {part: hashlib.sha256(text.encode()).hexdigest()[:16] for part, text in parts.items()}


def _revealed(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def differences(one: Fingerprint, other: Fingerprint) -> str:
    """The parts in which two fingerprints differ, for a message."""
    return ", ".join(sorted(part for part in one.keys() | other.keys() if one.get(part) != other.get(part)))


def _module_stamp(name: str) -> float:
    """When the module's file last changed: a worker keeps the code that it imported."""
    relative = Path(*name.split("."))
    for folder in ("", *sys.path):
        for candidate in (relative.with_suffix(".py"), relative / "__init__.py"):
            with suppress(OSError):
                return Path(folder, candidate).stat().st_mtime
    return 0.0
