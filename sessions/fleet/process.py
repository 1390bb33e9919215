"""A process that a supervisor keeps running, a worker or the gateway: its command, its environment, its output."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from broker_config.settings import PREFIX, Settings
from sessions.errors import MissingExtra
from sessions.fleet.home import FleetHome, settings_environment
from sessions.own_packages import own_program

SPAWN = str(Path(__file__).with_name("spawn.py"))
_RETRIEVAL_MODULES = (
    "numpy", "onnxruntime", "tokenizers", "qdrant_client", "qdrant_edge", "pypdf", "pypdfium2",
    "selectolax", "markdown_it", "webencodings", "chardet", "semantic_text_splitter",
)  # fmt: skip
_GATEWAY_MODULES = ("fastapi", "uvicorn", "httptools", "sse_starlette", "jwt", "python_multipart")
LOG_LIMIT_BYTES = 5 * 1024 * 1024
LONGEST_PAUSE = 30.0
# A worker that ran for this long did not die of its start: its next pause is short again.
SETTLED = 60.0

Say = Callable[[str, str], None]
"""Takes a line of output and its source: `fleet`, `worker-1`."""


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of a child that must have exactly these settings, whatever ours is."""
    # Not CELERY_BROKER_URL: tools may use another application's broker, and the child gets ours by its own variable.
    ours = {"REDIS_URL", "QDRANT_URL", "QDRANT_API_KEY"}
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith(PREFIX)}
    return {**kept, **settings_environment(settings)}


def celery_worker(node: str, log_level: str) -> list[str]:
    """The command of a worker. Pool, slots and queues come from the application's own configuration."""
    # The workers need nothing from each other that Celery could tell them: mingling costs a second.
    options = ["--loglevel", log_level.lower(), "--without-mingle", "--without-gossip"]
    return own_program("workers", "-n", node, *options)


def gateway_command(node: str, settings: Settings) -> list[str]:
    """The command of the gateway; the name lets `sessionfleet down` find it in any case."""
    address = ["--host", settings.gateway_host, "--port", str(settings.gateway_port)]
    return own_program("sessions.cli.main", "gateway", *address, "--node", node)


def need(module: str) -> None:
    """Say what to install if a worker could only fail to import: a web backend needs no engine.

    Raises:
        MissingExtra: the package was installed without its `worker` extra.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(f"{module} is not installed, and workers need it: run `pip install 'sessionfleet[worker]'`")


def missing_for_retrieval() -> str | None:
    """A module that the retrieval role needs and that is not installed (the extra `documents`), if any."""
    return next((module for module in _RETRIEVAL_MODULES if importlib.util.find_spec(module) is None), None)


def missing_for_gateway() -> str | None:
    """A module that the gateway needs and that is not installed (the extra `gateway`), if any."""
    return next((module for module in _GATEWAY_MODULES if importlib.util.find_spec(module) is None), None)


def open_log(path: Path) -> IO[bytes]:
    """A log file to append to; a large one is renamed to `.1` first, so that logs do not grow without limit."""
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


class FleetProcess:
    """A process that is restarted when it dies, after growing pauses.

    Args:
        name: its name in this home.
        command: what it runs.
        settings: with both addresses filled in, and its role; its environment.
        say: takes the lines of its output; None sends them to its log file.
        runs_turns: whether it runs turns of sessions.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        settings: Settings,
        home: FleetHome,
        say: Say | None,
        *,
        runs_turns: bool = False,
    ) -> None:
        self.name = name
        self.runs_turns = runs_turns
        self.log = home.logs / f"{self.name}.log"
        self._command = command
        self._settings = settings
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0
        self._start_at: float | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it is running."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it. Call this on the main thread: the process is tied to the thread that created it."""
        command = [sys.executable, "-S", SPAWN, "tie", str(os.getpid()), *self._command]
        environment = child_environment(self._settings)
        # In its own process group, so that a Ctrl-C in the terminal reaches the supervisor only.
        if self._say is None:
            with open_log(self.log) as log:
                self._process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        else:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            threading.Thread(target=self._pump, args=(self._process.stdout, self._say), daemon=True).start()
        self._started, self._start_at = time.monotonic(), None

    def check(self) -> int | None:
        """Its exit status if it has just died; then it is due again after a pause."""
        status = self._process.poll() if self._process else None
        if status is None:
            return None
        settled = time.monotonic() - self._started > SETTLED
        self._failures = 1 if settled else self._failures + 1
        self._process = None
        self._start_at = time.monotonic() + self.pause
        return status

    @property
    def pause(self) -> float:
        """Seconds between its death and its next start."""
        return min(LONGEST_PAUSE, 0.5 * 2.0 ** (self._failures - 1))

    @property
    def due(self) -> bool:
        """Whether it is time to start it again."""
        return self._start_at is not None and time.monotonic() >= self._start_at

    def signal(self, number: int) -> None:
        """Send it a signal, if it is running."""
        if self._process is not None:
            self._process.send_signal(number)

    @property
    def ended(self) -> bool:
        """Whether no process of it is left."""
        return self._process is None or self._process.poll() is not None

    def last_words(self) -> str:
        """The end of its log file."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def _pump(self, lines: IO[bytes], say: Say) -> None:
        with lines:
            for line in lines:
                say(self.name, line.decode(errors="replace").rstrip("\n"))
