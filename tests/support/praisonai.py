"""PraisonAI itself, from the registry: in a separate environment, because its dependencies conflict with ours.

It is created once, with uv, in the user's cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest

from tests.support.fleet import ROOT
from tests.support.servers import free_port
from tests.support.waiting import wait_until

VERSION = "1.7.17"
_SECONDS = 240


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")
    cache_folder = Path(home or tempfile.gettempdir()) / ("" if os.environ.get("XDG_CACHE_HOME") else ".cache")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cache_folder / "sessionfleet-tests" / f"praisonaiagents-{VERSION}-py{python}"


@cache
def praisonai_python() -> str:
    """The Python that has it. If it cannot be installed, the test fails: it is what people use."""
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    python, ready = folder / "bin" / "python", folder / ".ready"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            _uv("venv", "--clear", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--python", str(python), f"praisonaiagents[api]=={VERSION}")
            ready.touch()
    return str(python)


def _uv(*words: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    # As pip does: the certificates of this machine, under the old and the new name of that setting.
    env = {**os.environ, "UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    try:
        done = subprocess.run([str(uv), *words], env=env, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail(f"`uv {' '.join(words)}` took longer than {_SECONDS} s: can the package registry be reached?")
    if done.returncode:
        pytest.fail(f"`uv {' '.join(words)}` failed: can the package registry be reached?\n{done.stderr[-2000:]}")


def quiet_environment(folder: Path) -> dict[str, str]:
    """No key, no telemetry, nothing written to the user's home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PRAISONAI_"))}
    return {**kept, "HOME": str(folder), "PRAISONAI_TELEMETRY_DISABLED": "true", "DO_NOT_TRACK": "true"}


def run_praisonai(code: str, folder: Path, *arguments: str) -> str:
    """What a program that uses it prints; it must end well."""
    done = subprocess.run(
        [praisonai_python(), "-c", code, *arguments],
        env=quiet_environment(folder), cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def served(command: list[str], env: dict[str, str], folder: Path, port: int) -> Iterator[str]:
    """A server in a separate process, from when it answers until the block ends; its address."""
    url = f"http://127.0.0.1:{port}"
    log_path = folder / f"served-{port}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, f"the server ended: {log_path.read_text()[-3000:]}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url, trust_env=False).status_code > 0
        return False

    try:
        wait_until(answers, description="the server answers")
        yield url
    finally:
        process.terminate()
        process.wait(20)


_LAUNCH = """
import sys, threading
from praisonaiagents import Agent
Agent(name="Remote", instructions="Be brief", llm="gpt-4o-mini").launch(path="/agent", port=int(sys.argv[1]))
threading.Event().wait()
"""


@contextlib.contextmanager
def praisonai_server(openai_url: str, folder: Path, token: str) -> Iterator[str]:
    """`Agent.launch` of PraisonAI, with a model behind an OpenAI-compatible address; the agent's address."""
    port = free_port()
    env = {**quiet_environment(folder), "OPENAI_BASE_URL": openai_url, "OPENAI_API_KEY": "none"}
    env["PRAISONAI_LAUNCH_AUTH_TOKEN"] = token
    with served([praisonai_python(), "-c", _LAUNCH, str(port)], env, folder, port) as url:
        yield f"{url}/agent"


_SERVE = """
import sys
from datetime import datetime
from sessions import Agent
scope = {"__name__": "remote_agent_server", "datetime": datetime, "Agent": Agent}
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), scope)
scope["app"].run(host="127.0.0.1", port=int(sys.argv[2]))
"""


@contextlib.contextmanager
def documents_server(redis_url: str, folder: Path) -> Iterator[str]:
    """The Flask server in tests/samples, unchanged, with our `Agent` on a fleet; the agent's address."""
    port = free_port()
    sample = ROOT / "tests" / "samples" / "remote_agent_server.txt"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
    env = {**kept, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    with served([sys.executable, "-c", _SERVE, str(sample), str(port)], env, folder, port) as url:
        yield f"{url}/agent"
