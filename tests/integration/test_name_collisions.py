"""A working directory that contains its own `workers`, `sessions` or `broker_config`, as many Celery projects do.

Each test runs real commands in such a directory, with Sessionfleet installed as a wheel (found on `sys.path`, after the
working directory) or as `make install` does it (an editable install, whose finder finds each module by itself).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from broker_config.celery_app import FleetApp
from broker_config.settings import Settings
from sessions import Session
from sessions.client import fleet_info
from sessions.errors import NoWorkerAlive
from sessions.fleet.autostart import stop_fleet
from sessions.fleet.home import FleetHome
from tests.support.fleet import ROOT, Fleet
from tests.support.servers import Server, free_port
from tests.support.waiting import wait_until

EDITABLE = find_spec("__editable___sessionfleet_0_1_0_finder") is not None
# As a wheel: no finder of single modules, and our folder comes last on sys.path.
AS_A_WHEEL = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in getattr(finder, "__name__", "")]
sys.path.append({root!r})
"""
CLI = "from sessions.cli.main import main; main()"  # what the script `sessionfleet` does
CHAT = "from sessions import Session; print(Session('s').Agent('A', tools=['double']).chat('hello'))"
TOOL = "from sessions import tool\n\n@tool\ndef double(number: int) -> int:\n    return 2 * number\n"
TASK = "from celery import shared_task\n\n@shared_task\ndef add(x, y):\n    return x + y\n"
OURS = ("broker_config", "sessions", "workers")


class Project:
    """A user's project: a tool of their own, and modules whose names are also ours."""

    def __init__(self, folder: Path, install: str, *files: str) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        self.home = folder / "home"
        (self.folder / "my_tools.py").write_text(TOOL)
        for name in files:
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(TASK if "tasks" in name else "")
        hook = folder / "install"
        _declare_entry_points(hook)
        if install == "wheel":
            (hook / "sitecustomize.py").write_text(AS_A_WHEEL.format(root=str(ROOT)))
        elif not EDITABLE:
            pytest.skip("Sessionfleet is not installed as editable here")
        self.pythonpath = str(hook)

    def environment(self, **settings: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
        quick = {"SESSIONFLEET_SHUTDOWN_GRACE": "1", "SESSIONFLEET_TOOL_GRACE": "0", "PYTHONWARNINGS": "ignore"}
        ours = {"PYTHONPATH": self.pythonpath, "SESSIONFLEET_HOME": str(self.home)}
        return {**kept, **quick, **ours, "SESSIONFLEET_IMPORTS": "my_tools", **settings}

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's folder until it ends; stdout has both its streams."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=80,
            check=False,
        )

    def cli(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`sessionfleet ...`: the installed script's own folder comes first on sys.path, not the working directory."""
        return self.run("-P", "-c", CLI, *arguments, **settings)

    @contextmanager
    def running(self, *command: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program that runs meanwhile."""
        log = self.folder.parent / "running.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=self.folder, env=self.environment(**settings), stdout=out, stderr=out
            )
        try:
            yield process
        except AssertionError as error:
            raise AssertionError(f"{error}; its log: {log.read_text()[-3000:]}") from error
        finally:
            process.terminate()
            process.wait(30)

    def names_both(self, text: str, name: str) -> bool:
        """Whether one line of a text names the project's module and our package; a traceback names many files."""
        theirs = self.folder / name if (self.folder / name).is_dir() else self.folder / f"{name}.py"
        return any(repr(str(theirs)) in line and repr(str(ROOT / name)) in line for line in text.splitlines())


def _declare_entry_points(folder: Path) -> None:
    """Write pyproject.toml's entry points as an installer does: this environment may be older than they are."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups.items()]
    metadata = folder / "sessionfleet-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sessionfleet\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("".join(lines))


@pytest.fixture
def store(server: Server) -> dict[str, str]:
    """Settings for the shared server, with a separate tenant."""
    return {"REDIS_URL": server.url, "SESSIONFLEET_TENANT": "collisions", "SESSIONFLEET_AUTOSTART": "0"}


@pytest.mark.parametrize(
    ("install", "files"),
    [
        ("editable", ["workers/__init__.py", "workers/tasks.py"]),
        ("wheel", ["workers.py"]),
    ],
)
def test_a_script_next_to_its_own_workers_is_answered(tmp_path: Path, install: str, files: list[str]) -> None:
    """The fleet that the script starts runs our workers, which find the script's tools, whatever PYTHONPATH says."""
    project = Project(tmp_path, install, *files)
    project.pythonpath += f"{os.pathsep}{project.folder}"
    (project.folder / "app.py").write_text(CHAT)
    try:
        done = project.run("app.py")
        assert done.returncode == 0, done.stdout
        assert "hello" in done.stdout
        said = {check["name"]: check for check in json.loads(project.cli("doctor", "--json").stdout)}
        assert said["names"]["verdict"] == "warning"
        assert project.names_both(said["names"]["says"], "workers")
        assert "sessionfleet worker" in said["names"]["advice"]
        assert "my_tools: 1 tool" in said["imports"]["says"]
    finally:
        stop_fleet(project.home)
    assert not FleetHome(project.home).worker_processes()


@pytest.mark.parametrize("install", ["editable", "wheel"])
def test_our_commands_work_next_to_modules_with_our_names(tmp_path: Path, store: dict[str, str], install: str) -> None:
    """`sessionfleet worker`, `gateway` and `doctor` in a directory that contains all three names."""
    project = Project(tmp_path, install, "workers/__init__.py", "workers/tasks.py", "sessions.py", "broker_config.py")
    port = str(free_port())
    settings = Settings(redis_url=store["REDIS_URL"], tenant="collisions")
    with project.running("-P", "-c", CLI, "worker", "--name", f"w-{install}", "--queues", install, **store) as worker:
        agent = Session(f"s-{install}", queue=install, settings=settings).Agent("A", tools=["double"])
        wait_until(lambda: _lives(f"w-{install}", settings, worker), description="the worker serves")
        assert "hello" in agent.chat("hello", timeout=30)
    with project.running("-P", "-c", CLI, "gateway", "--port", port, **store) as gateway:
        wait_until(lambda: _answers(f"{port}/health", gateway), description="the gateway answers")
    doctor = project.cli("doctor", **store).stdout
    assert all(project.names_both(doctor, name) for name in OURS), doctor


def _lives(name: str, settings: Settings, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the worker ended"
    return any(worker.startswith(f"{name}@") for worker in fleet_info(settings))


def _answers(place: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the program ended"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{place}", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def test_flower_starts_next_to_a_package_named_workers(tmp_path: Path, store: dict[str, str]) -> None:
    """Celery looks in the working directory first, and still imports our application."""
    project = Project(tmp_path, "wheel", "workers/__init__.py", "workers/tasks.py")
    port = str(free_port())
    with project.running("-P", "-c", CLI, "flower", "--", f"--port={port}", **store) as flower:
        wait_until(lambda: _answers(f"{port}/healthcheck", flower), description="Flower answers")


@pytest.mark.parametrize("command", [("-m", "celery", "-A", "workers", "worker"), ("-m", "workers")])
@pytest.mark.parametrize("own", ["workers", "sessions"])
def test_celery_next_to_a_package_with_our_name_fails_and_names_both(
    tmp_path: Path, store: dict[str, str], own: str, command: tuple[str, ...]
) -> None:
    """Celery imports the package in the working directory. As soon as any of our code runs, it notices."""
    project = Project(tmp_path, "editable", f"{own}/__init__.py", f"{own}/tasks.py")
    done = project.run(*command, **store)
    assert done.returncode != 0
    assert project.names_both(done.stdout, own), done.stdout
    assert "sessionfleet worker" in done.stdout


@pytest.mark.parametrize("files", [["workers.py"], ["workers/__init__.py", "workers/tasks.py"]])
def test_celery_that_runs_none_of_our_code_fails_and_names_both(
    tmp_path: Path, store: dict[str, str], files: list[str]
) -> None:
    """If the user's `workers` contains no application, Celery fails, and our entry point explains why."""
    project = Project(tmp_path, "wheel", *files)
    done = project.run("-m", "celery", "-A", "workers", "worker", **store)
    assert done.returncode == 2
    assert "Unable to load celery application" in done.stdout
    assert project.names_both(done.stdout, "workers"), done.stdout


def test_an_application_of_the_user_is_left_alone(tmp_path: Path, store: dict[str, str]) -> None:
    """A `workers` that is a Celery application is used, and nothing is printed about it."""
    project = Project(tmp_path, "wheel", "workers.py")
    (project.folder / "workers.py").write_text(
        "from celery import Celery\n\napp = Celery('shop', broker='memory://')\n"
    )
    done = project.run("-m", "celery", "-A", "workers", "report", **store)
    assert done.returncode == 0
    assert "shop" in done.stdout or "memory" in done.stdout, done.stdout
    assert "Sessionfleet" not in done.stdout


@pytest.mark.parametrize("own", ["sessions", "broker_config"])
def test_workers_do_not_start_with_the_wrong_package(tmp_path: Path, store: dict[str, str], own: str) -> None:
    """A module of the project is named like one of our packages: the worker does not start with it."""
    project = Project(tmp_path, "wheel", f"{own}.py")
    done = project.run("-m", "celery", "-A", "workers", "worker", **store)
    assert done.returncode != 0
    assert project.names_both(done.stdout, own), done.stdout


@pytest.mark.parametrize("install", ["editable", "wheel"])
def test_a_script_next_to_its_own_broker_config_fails_and_names_both(tmp_path: Path, install: str) -> None:
    """`sessions` is ours, and what it imports is not. Without the check, some import inside would fail."""
    project = Project(tmp_path, install, "broker_config/__init__.py", "broker_config/settings.py")
    (project.folder / "app.py").write_text(CHAT)
    done = project.run("app.py")
    assert done.returncode != 0
    assert project.names_both(done.stdout, "broker_config"), done.stdout


def test_imports_cannot_name_a_package_with_our_name(tmp_path: Path, store: dict[str, str]) -> None:
    """The worker does not start, and the doctor says why. Otherwise the module's tools would just be unknown."""
    project = Project(tmp_path, "wheel", "workers/__init__.py", "workers/tasks.py")
    started = project.cli("worker", **store, SESSIONFLEET_IMPORTS="my_tools,workers.tasks")
    examined = project.cli("doctor", **store, SESSIONFLEET_IMPORTS="workers")
    for done, module in (started, "workers.tasks"), (examined, "workers"):
        assert done.returncode == 1
        assert f"module {module!r}" in done.stdout
        assert project.names_both(done.stdout, "workers"), done.stdout
        assert "rename" in done.stdout


def test_a_module_that_imports_its_own_workers_fails_and_names_both(tmp_path: Path, store: dict[str, str]) -> None:
    """A module in SESSIONFLEET_IMPORTS may import another one of the project, whose name is ours."""
    project = Project(tmp_path, "editable", "workers/__init__.py", "workers/tasks.py")
    (project.folder / "my_tools.py").write_text("from workers.tasks import add\n" + TOOL)
    done = project.cli("worker", **store)
    assert done.returncode == 1
    assert "cannot import name 'add'" in done.stdout
    assert project.names_both(done.stdout, "workers"), done.stdout


def test_no_worker_alive_mentions_a_workers_module_in_the_working_directory(
    new_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, `celery -A workers worker` starts the user's application, and none of our code runs that could fail."""
    project = Project(tmp_path, "wheel", "workers.py")
    monkeypatch.chdir(project.folder)
    fleet = Fleet(tmp_path / "fleet", new_server)
    try:
        with pytest.raises(NoWorkerAlive, match="celery -A workers") as caught:
            fleet.session().Agent("A").submit("hello").result(timeout=0.1)
    finally:
        fleet.close()
    assert project.names_both(str(caught.value), "workers")


def test_a_worker_without_the_task_does_not_start() -> None:
    """Without the task, a worker would accept wake-ups and run none of them."""
    from workers.process.step import refuse_without_task

    app: Any = FleetApp("other", Settings(redis_url="redis://127.0.0.1:1/0"), set_as_current=False)
    with pytest.raises(RuntimeError, match=r"sessionfleet\.run_session"):
        refuse_without_task(app)
