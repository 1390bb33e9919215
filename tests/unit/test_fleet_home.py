"""What a home knows of its fleet, without starting one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from broker_config.settings import Settings
from sessions.errors import FleetRunning, StoreUnavailable
from sessions.fleet.autostart import ensure_fleet
from sessions.fleet.home import (
    FleetHome,
    FleetRecord,
    alive,
    differences,
    end_processes,
    fingerprint,
    settings_environment,
)
from sessions.fleet.process import LOG_LIMIT_BYTES, SPAWN, child_environment, open_log
from tests.support.waiting import wait_until


def record(pid: int) -> FleetRecord:
    return FleetRecord(
        pid=pid, state="ready", autostarted=True, embedded=True, workers=2, stop_within=1.0, fingerprint={}
    )


@pytest.fixture
def home(tmp_path: Path) -> FleetHome:
    home = FleetHome(tmp_path / "home")
    home.prepare()
    return home


def test_a_home_where_nothing_ran_has_no_fleet(tmp_path: Path) -> None:
    """Looking for one creates no files."""
    assert FleetHome(tmp_path / "none").running() is None
    assert not (tmp_path / "none").exists()


def test_a_fleet_lives_as_long_as_its_lock_is_held(home: FleetHome) -> None:
    """The record alone proves nothing: its process id may be someone else's by now."""
    with home.held():
        assert home.running() is None, "it has not said yet what it is"
        home.write(record(os.getpid()))
        assert home.running() == record(os.getpid())
    home.write(record(os.getpid()))
    assert home.running() is None


def test_a_second_supervisor_is_refused_with_the_way_out(home: FleetHome) -> None:
    """The message names the process that is in the way and the command that ends it."""
    with home.held():
        home.write(record(os.getpid()))
        with pytest.raises(FleetRunning, match=rf"process {os.getpid()}.*sessionfleet down"), home.held():
            pass


def test_a_fingerprint_names_what_differs_and_tells_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key, another setting or a changed module of tools means that the workers must be restarted."""
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "my_tools.py"
    module.touch()
    settings = Settings(imports=("my_tools",))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    first = fingerprint(settings)
    assert fingerprint(settings) == first
    monkeypatch.setenv("OPENAI_API_KEY", "sk-two")
    assert differences(first, fingerprint(settings)) == "provider keys"
    os.utime(module, (1, 1))
    changed = fingerprint(settings.model_copy(update={"lease": 9.0}))
    assert differences(first, changed) == "imports, provider keys, settings"
    assert differences(first, fingerprint(Settings())) == "imports, provider keys"
    assert "sk-" not in str(first)


def test_two_names_of_one_interpreter_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python script.py` and `sessionfleet chat` of one environment do not take the fleet from each other."""
    monkeypatch.setattr("sys.executable", "/env/bin/python")
    first = fingerprint(Settings())
    monkeypatch.setattr("sys.executable", "/env/bin/python3")
    assert fingerprint(Settings()) == first
    monkeypatch.setattr("sys.prefix", "/other")
    assert differences(first, fingerprint(Settings())) == "interpreter"


def test_the_home_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    """The same folder has many spellings, and a fleet knows only its own home."""
    assert fingerprint(Settings(home=tmp_path)) == fingerprint(Settings(home=Path()))


def test_a_child_reads_exactly_the_settings_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of its parent does not matter."""
    monkeypatch.setenv("SESSIONFLEET_LEASE", "7")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    given = Settings(redis_url=None, lease=3.5, imports=("a", "b"), log_json=True, home=Path("/h"))
    given = given.model_copy(update={"queues": ("turns", "turns.vip")})
    environment = child_environment(given)
    assert "REDIS_URL" not in environment
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings() == given
    assert environment["SESSIONFLEET_QUEUES"] == "turns,turns.vip"
    assert "SESSIONFLEET_MODEL" not in settings_environment(given)


def test_without_autostart_a_missing_address_is_an_error(tmp_path: Path) -> None:
    """In production a forgotten REDIS_URL must not quietly start a private fleet."""
    settings = Settings(redis_url=None, autostart=False, home=tmp_path / "home")
    with pytest.raises(StoreUnavailable, match="REDIS_URL is not set"):
        ensure_fleet(settings)
    assert not (tmp_path / "home").exists()


def test_logs_stay_bounded(tmp_path: Path) -> None:
    """One log and the one before it, whatever happens how often."""
    log = tmp_path / "worker-1.log"
    for _ in range(3):
        log.write_bytes(b"x" * (LOG_LIMIT_BYTES + 1))
        open_log(log).close()
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {
        "worker-1.log": 0,
        "worker-1.log.1": LOG_LIMIT_BYTES + 1,
    }


def test_a_detached_program_is_no_child_of_its_starter() -> None:
    """It leaves no zombie behind, its starter may end, and its output does not block the starter."""
    command = [sys.executable, "-S", SPAWN, "detach", "sleep", "60"]
    started = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=20, check=True)
    process = psutil.Process(int(started.stdout))
    try:
        assert process.ppid() != os.getpid()
        assert os.getsid(process.pid) == process.pid
    finally:
        end_processes([process], 5.0)
    assert not alive(process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_tied_program_dies_with_its_parent() -> None:
    """Workers of a supervisor that was killed with SIGKILL do not stay."""
    code = "import os, subprocess, sys, time\n"
    code += "child = subprocess.Popen([sys.executable, '-S', sys.argv[1], 'tie', str(os.getpid()), 'sleep', '60'])\n"
    code += "print(child.pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, SPAWN], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        while "sleep" not in child.name():  # until it has become the program
            assert alive(child.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not alive(child.pid), description="the tied program ends")


def test_processes_that_ignore_a_request_are_killed() -> None:
    """`down` leaves no process, not even one that hangs."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        end_processes([psutil.Process(stubborn.pid)], 0.2)
        assert not alive(stubborn.pid)
