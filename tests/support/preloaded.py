"""Python programs that start at once: forked from a process that has imported the libraries and our packages before.

A worker needs seconds of CPU time to import Celery and pydantic-ai, and the tests start hundreds. Such a program is a
process of its own all the same, with its own environment, folder, output and exit status, and `kill -9` ends it alone.
Tests of the start itself, of what is imported, or of packages in a user's folder use `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
# What a worker and the gateway import, except `workers.celery`: it reads the environment.
_LIBRARIES = (
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "qdrant_client",
    "uvicorn",
    "fastapi",
    "workers.tasks",
    "workers.process.control",
    "workers.process.pool",
    "workers.process.step",
    "sessions.gateway.app",
    "sessions.cli.main",
)
_MESSAGE = 1 << 20
_WAIT = 0.005


class Program:
    """A program that runs. The methods are those of `subprocess.Popen`."""

    def __init__(self, origin: _Origin, pid: int) -> None:
        self._origin = origin
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while nobody has asked, or it runs."""
        return self._origin.ended.get(self.pid)

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        if self.returncode is None:
            self._origin.look()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended.

        Raises:
            subprocess.TimeoutExpired: it runs longer.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"program {self.pid}", timeout or 0.0)
            time.sleep(_WAIT)
        return status

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    stdin: IO[Any] | int = subprocess.DEVNULL,
    stdout: IO[Any] | int = subprocess.DEVNULL,
    stderr: IO[Any] | int = subprocess.DEVNULL,
    start_new_session: bool = False,
) -> Program:
    """Start a program. The arguments are those of `subprocess.Popen`, but for pipes, and its input is empty by default.

    Args:
        command: `sys.executable`, `-W` with its argument if any, `-m MODULE` or `-c CODE` or a script, and arguments.
        env: its whole environment.
        cwd: its working directory; by default this process's.
        stdin: a file, or the number of one.
        stdout: the same, for its output.
        stderr: the same, for its errors.
        start_new_session: whether a terminal's keys reach it.
    """
    assert command[0] == sys.executable
    request = {"words": command[1:], "env": dict(env), "cwd": str(cwd or Path.cwd()), "session": start_new_session}
    return _origin().start(request, stdin, stdout, stderr)


def start_anew(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: IO[Any], stderr: IO[Any]
) -> subprocess.Popen[bytes]:
    """Start a program in a new interpreter: for tests of what it loads."""
    return subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    input: str = "",  # noqa: A002 - as `subprocess.run` has it
    timeout: float = 60.0,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program as `subprocess.run(command, capture_output=True, text=True, ...)` does."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        said.write(input.encode())
        said.seek(0)
        program = start(command, env=env, cwd=cwd, stdin=said, stdout=out, stderr=errors)
        try:
            status = program.wait(timeout)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
            raise
        done = subprocess.CompletedProcess(command, status, _text(out), _text(errors))
    if check:
        done.check_returncode()
    return done


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


class _Origin:
    """The process that programs are forked from, seen from the tests: one for each process of pytest."""

    def __init__(self) -> None:
        self.ended: dict[int, int] = {}
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE)
        command = [sys.executable, "-m", "tests.support.preloaded", str(theirs.fileno())]
        # One thread: a fork copies no other, and with several processes on few cores more threads gain nothing.
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL
        )
        theirs.close()
        atexit.register(self.close)

    def start(self, request: dict[str, Any], *files: IO[Any] | int) -> Program:
        with Path(os.devnull).open("r+b") as nothing, self._lock:
            given = [nothing if file == subprocess.DEVNULL else file for file in files]
            if given[2] == subprocess.STDOUT:
                given[2] = given[1]
            numbers = [file if isinstance(file, int) else file.fileno() for file in given]
            socket.send_fds(self._socket, [json.dumps(request).encode()], numbers)
            while "pid" not in (answer := self._receive()):
                self._note(answer)
            self.ended.pop(answer["pid"], None)  # of an earlier program with the same id
        return Program(self, answer["pid"])

    def look(self) -> None:
        """Take the news of programs that have ended."""
        with self._lock:
            while select.select([self._socket], [], [], 0)[0]:
                self._note(self._receive())

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def _receive(self) -> dict[str, Any]:
        message = self._socket.recv(_MESSAGE)
        assert message, "the process that programs are forked from has ended"
        return json.loads(message)  # type: ignore[no-any-return]

    def _note(self, news: dict[str, int]) -> None:
        self.ended[news["ended"]] = news["status"]


@functools.cache
def _origin() -> _Origin:
    return _Origin()


def _forked(control: socket.socket) -> dict[str, Any] | None:
    """Serve requests; returns in a new process with what it shall run, and with None when the tests have ended."""
    news, wake = socket.socketpair()
    wake.setblocking(False)
    news.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    while True:
        for end in select.select([control, news], [], [])[0]:
            if end is news:
                news.recv(4096)
                _tell_ended(control)
                continue
            message, files, _, _ = socket.recv_fds(control, _MESSAGE, 3)
            if not message:
                return None
            if pid := os.fork():
                for file in files:
                    os.close(file)
                control.send(json.dumps({"pid": pid}).encode())
                continue
            signal.set_wakeup_fd(-1)
            for end_ in (control, news, wake):
                end_.close()
            for number, file in zip((0, 1, 2), files, strict=True):
                os.dup2(file, number)
                os.close(file)
            return json.loads(message)  # type: ignore[no-any-return]


def _tell_ended(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            control.send(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def _become(request: dict[str, Any]) -> None:
    """Turn this process into what `python *words` would have started."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if request["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.orig_argv = [sys.executable, *request["words"]]
    words = _warned(request["words"])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*paths, *(path for path in sys.path if path not in (str(ROOT), ""))]
    _RUN.get(words[0], _run_script)(words)


def _warned(words: list[str]) -> list[str]:
    """Set up warnings as asked; returns the other words."""
    sys.warnoptions[:] = [option for option in os.environ.get("PYTHONWARNINGS", "").split(",") if option]
    while words[0] == "-W":
        sys.warnoptions.append(words[1])
        words = words[2:]
    warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]
    return words


def _run_module(words: list[str]) -> None:
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)


def _run_code(words: list[str]) -> None:
    sys.path.insert(0, "")
    sys.argv = ["-c", *words[2:]]
    sys.modules["__main__"] = program = types.ModuleType("__main__")  # pickle looks there for its functions
    exec(compile(words[1], "<string>", "exec"), program.__dict__)


def _run_script(words: list[str]) -> None:
    sys.path.insert(0, str(Path(words[0]).parent.absolute()))
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


_RUN = {"-m": _run_module, "-c": _run_code}


def _main() -> None:
    with warnings.catch_warnings(action="ignore"):
        for name in _LIBRARIES:
            importlib.import_module(name)
    del sys.modules["sessions.cli.main"]  # it runs as `__main__`
    gc.collect()
    gc.freeze()  # a program that ends would look at all these objects, and copy their pages
    control = socket.socket(fileno=int(sys.argv[1]))
    request = _forked(control)
    if request is not None:
        _become(request)


if __name__ == "__main__":
    _main()
