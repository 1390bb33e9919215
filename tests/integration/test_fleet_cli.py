"""Fleets of a home, with real processes: by hand, in the background for a script, killed, replaced and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from broker_config.embedded import EmbeddedServer
from sessions.fleet.autostart import stop_fleet
from sessions.fleet.home import FleetHome, alive
from tests.support import preloaded
from tests.support.servers import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
CHAT = "import sys; from sessions import Session; print(Session('s').Agent().chat(sys.argv[1]))"
FIND = (
    "from sessions import Session; session = Session('find'); "
    "session.add_knowledge('Each employee has 28 days of paid holiday.', timeout=80); "
    "print(session.search_knowledge('holiday', timeout=80))"
)


class Place:
    """A working directory with a home in it, and what runs there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = FleetHome(folder / "home")
        self.port = free_port()
        self.up: preloaded.Program | None = None

    def environment(self, **settings: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
        ours = {"SESSIONFLEET_HOME": str(self.home.path), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        quick = {"SESSIONFLEET_SHUTDOWN_GRACE": "2", "SESSIONFLEET_TOOL_GRACE": "0"}
        return {**kept, **ours, **quick, "SESSIONFLEET_GATEWAY_PORT": str(self.port), **settings}

    def run(self, *command: str, check: bool = True, **settings: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment(**settings),
            timeout=100,
            check=check,
        )

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "sessions.cli.main", *arguments, check=check)

    def chat(self, message: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return self.run("-c", CHAT, message, **settings)

    def start(self, *arguments: str) -> None:
        """`sessionfleet up`, until it is ready."""
        with (self.folder / "up.log").open("ab") as log:
            self.up = preloaded.start(
                [sys.executable, "-m", "sessions.cli.main", "up", *arguments],
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
            )
        wait_until(self.ready, description="the fleet is ready", timeout=60)

    def ready(self) -> bool:
        assert self.up is None or self.up.poll() is None, self.output()
        record = self.home.running()
        return record is not None and record.state == "ready"

    def output(self) -> str:
        return (self.folder / "up.log").read_text()

    def processes(self) -> list[int]:
        """Everything of this home that runs."""
        record = self.home.running()
        found = [process.pid for process in self.home.worker_processes()]
        server = EmbeddedServer(self.home.path).pid()
        return [*found, *([record.pid] if record else []), *([server] if server else [])]

    def close(self) -> None:
        stop_fleet(self.home.path)
        if self.up is not None:
            self.up.wait(30)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A fleet that was started by hand; tests that use it leave it running."""
    place = Place(tmp_path_factory.mktemp("shared"))
    try:
        place.start()
        yield place
    finally:
        place.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_up_serves_the_gateway_and_starts_it_again(shared: Place) -> None:
    """`sessionfleet up` is all that a developer starts: the fleet answers over HTTP, also after the gateway died."""
    url = f"http://127.0.0.1:{shared.port}"

    def workers() -> int:
        try:
            return int(httpx.get(f"{url}/ready").raise_for_status().json()["workers"])
        except httpx.HTTPError:
            return 0

    wait_until(workers, description="the gateway sees workers", timeout=30)
    (gateway,) = shared.home.worker_processes("gateway")
    gateway.kill()
    wait_until(lambda: shared.home.worker_processes("gateway"), description="another gateway runs", timeout=30)
    wait_until(workers, description="it sees workers", timeout=30)
    answered = httpx.post(f"{url}/agent", json={"message": "hello", "session_id": "web-1"}, timeout=30)
    assert "hello" in answered.raise_for_status().json()["content"]


def test_up_names_the_option_for_a_port_that_is_taken(shared: Place) -> None:
    """The command fails before it starts anything."""
    done = shared.cli("up", "--home", "other", "--port", str(shared.port), check=False)
    assert done.returncode == 1
    assert f"port {shared.port}" in done.stderr
    assert "--port" in done.stderr
    assert not (shared.folder / "other").exists()


def test_a_second_up_is_refused(shared: Place) -> None:
    """Two supervisors of one home would fight over its workers."""
    done = shared.cli("up", check=False)
    record = shared.home.running()
    assert record is not None
    assert done.returncode == 1
    assert f"process {record.pid}" in done.stderr
    assert "sessionfleet down" in done.stderr


def test_a_healthy_fleet_passes_the_doctor(shared: Place) -> None:
    """The exit status is 0, with a warning that no model is set."""
    wait_until(
        lambda: len(json.loads(shared.cli("workers", "--json").stdout)) == 3,
        description="two workers, and one for retrieval",
    )
    done = shared.cli("doctor")
    assert "3 running" in done.stdout
    assert "SESSIONFLEET_MODEL" in done.stdout
    assert f"answers at http://127.0.0.1:{shared.port}" in done.stdout


def test_a_message_is_answered_and_can_be_looked_at(shared: Place) -> None:
    """`chat` streams the answer; `turns` shows it with its worker."""
    said = shared.cli("chat", "talk", "--message", "My name is [bold]Alice").stdout
    assert "[bold]Alice" in said
    turns = json.loads(shared.cli("turns", "list", "talk", "--json").stdout)
    assert [turn["status"] for turn in turns] == ["succeeded"]
    shown = shared.cli("turns", "show", turns[0]["turn"]).stdout
    assert "worker-" in shown
    assert "My name is [bold]Alice" in shown
    assert "succeeded" in shared.cli("turns", "cancel", turns[0]["turn"]).stdout


def test_lines_from_a_pipe_are_one_conversation(shared: Place) -> None:
    """Without a terminal there is no prompt, and each line is a turn."""
    with subprocess.Popen(
        [sys.executable, "-m", "sessions.cli.main", "chat", "pipe"],
        cwd=shared.folder,
        env=shared.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as chat:
        said, _ = chat.communicate("My name is Bob\nWhat is my name?\n/quit\nnot sent\n", timeout=60)
    assert chat.returncode == 0
    assert said.count("Bob") == 2
    assert "you>" not in said
    assert len(json.loads(shared.cli("turns", "list", "pipe", "--json").stdout)) == 2


def test_a_script_uses_a_fleet_that_was_started_by_hand(shared: Place) -> None:
    """Used as it is, although the script has other settings; a line on stderr says so."""
    done = shared.chat("hello", SESSIONFLEET_MAX_ATTEMPTS="2")
    record = shared.home.running()
    assert record is not None
    assert not record.autostarted
    assert "differs from the fleet" in done.stderr
    assert "settings" in done.stderr


def test_a_worker_that_dies_is_started_again(shared: Place) -> None:
    """The supervisor starts it, and logs that it did."""
    victim = shared.home.worker_processes("worker-1")[0].pid
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        found = shared.home.worker_processes("worker-1")
        return bool(found) and found[0].pid != victim

    wait_until(replaced, description="another worker-1 runs")
    assert "worker-1 died (SIGKILL)" in shared.output()


def test_the_retrieval_worker_is_kept_running_too(shared: Place) -> None:
    """Killed, it is started again, and gets the index that the dead one owned."""
    wait_until(lambda: "retrieval-1" in shared.cli("workers").stdout, description="retrieval-1 serves")
    victim = shared.home.worker_processes("retrieval-1")[0].pid
    os.kill(victim, signal.SIGKILL)
    found = shared.run("-c", FIND).stdout
    assert "28 days" in found
    assert "retrieval-1 died (SIGKILL)" in shared.output()
    assert [process.pid for process in shared.home.worker_processes("retrieval-1")] != [victim]


def test_a_server_that_dies_is_started_again_with_its_data(shared: Place) -> None:
    """Messages from before the crash are known afterwards."""
    shared.chat("My name is Carol")
    server = EmbeddedServer(shared.home.path)
    victim = server.pid()
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: server.pid() not in (None, victim) and server.is_running(), description="another server")
    assert "Carol" in shared.chat("What is my name?").stdout


def test_down_leaves_nothing(place: Place) -> None:
    """Supervisor, workers and server stop; running it again is not an error."""
    place.start("--workers", "1")
    running = place.processes()
    assert len(running) == 5, "supervisor, server, gateway, one worker for turns, one for retrieval"
    said = place.cli("down").stdout
    assert "fleet stopped" in said
    assert not any(alive(pid) for pid in running)
    assert place.up is not None
    assert place.up.wait(10) == 0
    assert "nothing is running" in place.cli("down").stdout


def test_a_fleet_that_was_killed_leaves_no_worker_and_does_not_hinder_the_next(place: Place) -> None:
    """SIGKILL of the supervisor: the kernel ends its workers, the data stays, the next `up` works."""
    place.start("--workers", "1")
    assert place.up is not None
    workers = [process.pid for process in place.home.worker_processes()]
    place.up.kill()
    place.up.wait()
    assert place.home.running() is None
    wait_until(lambda: not any(alive(pid) for pid in workers), description="the workers end", timeout=30)
    place.start("--workers", "1")


@pytest.mark.slow
def test_scripts_share_a_fleet_in_the_background(place: Place) -> None:
    """Three scripts at once start one fleet, one of them says so in one line, and the next finds it there."""
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda n: place.chat(f"My name is Dave{n}"), range(3)))
    said = [line for run in runs for line in run.stderr.splitlines() if line.startswith("sessionfleet:")]
    assert len(said) == 1
    assert "in the background" in said[0]
    first = place.home.running()
    assert first is not None
    assert first.autostarted
    again = place.chat("What is my name?")
    assert "sessionfleet:" not in again.stderr
    assert "Dave" in again.stdout
    replaced = place.chat("What is my name?", SESSIONFLEET_LEASE="4", SESSIONFLEET_IDLE_SHUTDOWN="2")
    assert "Dave" in replaced.stdout
    assert "restarting the background fleet: settings changed" in replaced.stderr
    second = place.home.running()
    assert second is None or second.pid != first.pid
    wait_until(lambda: not place.processes(), description="the idle fleet has ended", timeout=30)
    assert "stopping the fleet" in (place.home.logs / "fleet.log").read_text()


def test_a_fleet_that_cannot_start_says_why(place: Place) -> None:
    """The script fails with the worker's own words, and nothing stays."""
    done = place.run("-c", CHAT, "hello", check=False, SESSIONFLEET_IMPORTS="no_such_module_here")
    assert done.returncode != 0
    assert "EmbeddedServerError" in done.stderr
    assert "no_such_module_here" in done.stderr.rpartition("EmbeddedServerError")[2]
    wait_until(lambda: not place.processes(), description="nothing of it runs")


def test_ctrl_c_ends_a_fleet_in_order(place: Place) -> None:
    """Workers first, and the server last, so that its file has everything."""
    place.start("--workers", "1")
    assert place.up is not None
    running = place.processes()
    os.kill(place.up.pid, signal.SIGINT)
    assert place.up.wait(30) == 0
    assert not any(alive(pid) for pid in running)
    said = place.output()
    assert said.index("stopping 2 workers") < said.index("server stopped")
    assert not (place.home.path / "fleet.json").exists()
    assert not [p for p in psutil.process_iter() if p.pid in running and p.status() != psutil.STATUS_ZOMBIE]
