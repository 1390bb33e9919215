"""The command line without a fleet: clear errors, what a worker is started with, and what the doctor sees."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from rich.console import Console
from typer.testing import CliRunner

from broker_config.embedded import EmbeddedServer
from broker_config.encryption_keys import parse_keys
from broker_config.settings import Settings, load_settings
from sessions.cli import main as cli
from sessions.cli.checks import examine
from sessions.cli.gateway_check import gateway_check
from sessions.cli.import_check import import_check
from sessions.cli.output import print_fields, print_table
from sessions.cli.replication_check import replication_check
from sessions.cli.retrieval_checks import _embedded, retrieval_checks
from sessions.cli.server_checks import _clock, _memory
from sessions.cli.verdicts import Check, Verdict
from sessions.errors import SessionfleetError
from sessions.fleet.autostart import ensure_fleet
from sessions.fleet.home import FleetHome
from sessions.own_packages import own_program
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.activity import Activity
from tests.support.qdrant_server import QdrantServer
from tests.support.web import Answer, web_server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of the test's own, as one has it without any setting."""
    folder = tmp_path / "home"
    monkeypatch.delenv("SESSIONFLEET_AUTOSTART")
    monkeypatch.setenv("SESSIONFLEET_HOME", str(folder))
    load_settings.cache_clear()
    yield folder
    EmbeddedServer(folder).stop()
    load_settings.cache_clear()


@pytest.fixture
def embedded(home: Path) -> Iterator[redis.Redis]:
    server = EmbeddedServer(home)
    server.ensure_started()
    with redis.Redis.from_url(server.redis_url, decode_responses=True) as client:
        yield client


def run(*arguments: str) -> tuple[int, str]:
    """A command's exit status and output, as `main` gives them."""
    result = CliRunner().invoke(cli.app, list(arguments))
    if isinstance(result.exception, SessionfleetError):
        raise result.exception
    return result.exit_code, result.output


def call_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["sessionfleet", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(str(caught.value.code))


def test_an_error_is_one_line_and_a_status(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """People see what is wrong and what to do; no traceback."""
    monkeypatch.setenv("SESSIONFLEET_LEESE", "3")
    assert call_main(monkeypatch, "doctor") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: unknown setting 'SESSIONFLEET_LEESE'")
    assert "SESSIONFLEET_LEASE" in said
    assert len(said.splitlines()) == 1


def test_debugging_shows_the_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line is not enough for people who repair Sessionfleet itself."""
    monkeypatch.setenv("SESSIONFLEET_LOG_LEVEL", "DEBUG")
    monkeypatch.setattr("sys.argv", ["sessionfleet", "workers"])
    with pytest.raises(SessionfleetError, match="sessionfleet up"):
        cli.main()


@pytest.mark.parametrize("command", [["workers"], ["dead", "list"], ["turns", "list", "s"], ["flower"]])
def test_looking_starts_no_fleet(home: Path, command: list[str]) -> None:
    """A command that asks what is running gets the answer that nothing is."""
    with pytest.raises(SessionfleetError, match=r"no fleet is running in .* start one with `sessionfleet up`"):
        run(*command)
    assert not home.exists()


def test_down_where_nothing_runs_is_no_error(home: Path) -> None:
    """Scripts may call it at any time."""
    assert run("down") == (0, f"nothing is running in {str(home)!r}\n")


def test_the_doctor_says_how_to_start(home: Path) -> None:
    """Without a server there is one broken line, and it says what to type."""
    status, said = run("doctor", "--json")
    assert status == 1
    checks = {check["name"]: check for check in json.loads(said)}
    assert checks["server"]["verdict"] == "broken"
    assert "sessionfleet up" in checks["server"]["advice"]


async def test_the_doctor_finds_what_is_broken(embedded: redis.Redis) -> None:
    """An evicting server, no append-only file, another partition count, no workers: each has its line."""
    embedded.config_set("maxmemory-policy", "allkeys-lru")
    embedded.config_set("appendonly", "no")
    embedded.set("sf:v1:{fleet}:partitions", 64)
    checks = {check.name: check for check in await examine(load_settings())}
    assert checks["server"].verdict is Verdict.BROKEN
    assert "noeviction" in checks["server"].advice
    assert checks["persistence"].verdict is Verdict.WARNING
    assert checks["partitions"].verdict is Verdict.BROKEN
    assert "SESSIONFLEET_PARTITIONS=64" in checks["partitions"].advice
    assert checks["workers"].verdict is Verdict.BROKEN
    assert checks["broker"].verdict is Verdict.OK
    assert checks["model"].verdict is Verdict.WARNING


async def test_the_doctor_looks_for_the_imported_modules(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers would not start with a module that is not there."""
    settings = load_settings().model_copy(update={"imports": ("no_such_module_here",)})
    checks = {check.name: check for check in await examine(settings)}
    assert checks["imports"].verdict is Verdict.BROKEN
    (home.parent / "no_such_module_here.py").touch()
    monkeypatch.chdir(home.parent)
    checks = {check.name: check for check in await examine(settings)}
    assert checks["imports"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("imported", "here", "verdict", "said"),
    [
        ([("shop_tools",), ("shop_tools",)], (), Verdict.OK, "the workers have shop_tools: 1 tool and 0 agents"),
        ([()], (), Verdict.OK, "the workers have none"),
        ([("shop_tools",), ()], (), Verdict.WARNING, "the workers differ: w0 has shop_tools; w1 has none"),
        ([("shop_tools",)], ("more",), Verdict.WARNING, "this shell also names more: restart the workers"),
        ([None], (), Verdict.OK, "none in this shell"),
    ],
)
def test_the_doctor_reports_the_workers_imports(
    home: Path, imported: list[tuple[str, ...] | None], here: tuple[str, ...], verdict: Verdict, said: str
) -> None:
    """Those of the shell that asks say nothing of workers that run elsewhere."""
    workers = tuple(
        WorkerInfo.model_construct(id=f"w{n}", imports=names, tools=("charge",) if names else (), agents=())
        for n, names in enumerate(imported)
    )
    seen = Activity(workers, last_seen={}, open_sessions=0)
    check = import_check(seen, load_settings().model_copy(update={"imports": here}))
    assert check.verdict is verdict
    assert said in f"{check.says} {check.advice}"


@pytest.mark.parametrize("command", [[], ["up"], ["knowledge", "add"], ["worker"], ["keys", "api", "create"]])
def test_every_command_explains_itself_by_h(home: Path, command: list[str]) -> None:
    """Most programs accept `-h`."""
    assert run(*command, "-h") == run(*command, "--help")


def test_the_shell_can_complete_commands(home: Path) -> None:
    """`sessionfleet --install-completion` sets it up."""
    assert "--install-completion" in run("--help")[1]


def test_a_missing_document_starts_no_fleet(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The error is printed at once."""
    status, said = run("knowledge", "add", "no-such.pdf", "--base", "b")
    assert status == 1
    assert "there is no file 'no-such.pdf'" in said + capfd.readouterr().err
    assert not home.exists()


def test_memory_is_judged_by_the_high_water_mark(home: Path) -> None:
    """New turns are refused from there on, so that is when it is broken."""
    verdicts = [_memory({"used_memory": used, "maxmemory": 100}, load_settings()).verdict for used in (10, 80, 90)]
    assert verdicts == [Verdict.OK, Verdict.WARNING, Verdict.BROKEN]


def test_a_skewed_clock_is_a_warning() -> None:
    """Leases go by the server's clock alone, so nothing breaks."""
    assert [_clock(skew).verdict for skew in (0.5, -30.0)] == [Verdict.OK, Verdict.WARNING]


def test_an_unknown_turn_is_an_error_that_says_why(embedded: redis.Redis) -> None:
    """It expired, was deleted or never existed."""
    with pytest.raises(SessionfleetError, match="expired"):
        run("turns", "show", "chat-1~" + "0" * 32)
    with pytest.raises(SessionfleetError, match="looks like"):
        run("turns", "show", "nonsense")


def test_an_address_without_a_scheme_is_refused_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The most common slip in REDIS_URL ends neither in a traceback nor in a log with a password."""
    monkeypatch.setenv("REDIS_URL", "me:secret@localhost:6379")
    load_settings.cache_clear()
    assert call_main(monkeypatch, "doctor") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: setting REDIS_URL: an address begins with redis://")
    assert "secret" not in said


def test_a_table_never_breaks_an_id(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are copied: in a narrow terminal other columns give way, and a pipe gets everything."""
    turn, message = "chat-1~" + "0" * 32, "a message that is longer than what is left of the line"
    rows = [(turn, "succeeded", 1, "worker-1.eb1b2f5f@host", "3 min ago", message)]
    columns = ("turn", "status", "attempt", "worker", "accepted", "message")
    said = {}
    for width in (40, 80, 200, 0):
        monkeypatch.setattr("sessions.cli.output.terminal", lambda width=width: as_terminal(width))
        print_table(columns, rows, spare=("worker", "attempt"), cut="message")
        said[width] = capsys.readouterr().out.splitlines()
        assert any(turn in line for line in said[width])
    assert len(said[80]) == 2
    assert "worker" not in said[80][0]
    assert said[80][1].endswith("…")
    for wide in (said[200], said[0]):
        assert wide[1].split("  ")[0] == turn
        assert "worker-1.eb1b2f5f@host" in wide[1]
        assert message in wide[1]


def test_fields_in_a_pipe_are_left_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`grep` and `cut` need a long message on one line."""
    monkeypatch.setattr("sessions.cli.output.terminal", lambda: as_terminal(0))
    print_fields({"turn": "t~1", "message": "word " * 40 + "end", "error": None})
    assert capsys.readouterr().out == "turn     t~1\nmessage  " + "word " * 40 + "end\n"


def as_terminal(width: int) -> Console:
    """A terminal of this width; 0 is a pipe."""
    return Console(force_terminal=width > 0, width=width or 80, color_system=None)


def test_a_key_is_made_for_the_setting() -> None:
    """It can be used as it is; an id that the setting would refuse is refused."""
    made = CliRunner().invoke(cli.app, ["keys", "new", "2026-11"])
    assert list(parse_keys(made.stdout.strip())) == ["2026-11"]
    assert len(parse_keys(CliRunner().invoke(cli.app, ["keys", "new"]).stdout.strip())) == 1
    refused = CliRunner().invoke(cli.app, ["keys", "new", "a:b"])
    assert isinstance(refused.exception, SessionfleetError)


def test_the_version_is_told() -> None:
    """It is the first question about any bug report."""
    assert run("--version") == (0, "sessionfleet 0.1.0\n")


def test_no_dead_letters_and_no_workers_are_said_in_words(embedded: redis.Redis) -> None:
    """An empty table could be mistaken for a failure."""
    assert run("dead", "list") == (0, "no dead letters\n")
    assert run("dead", "list", "--json") == (0, "[]\n")
    assert "sessionfleet worker" in run("workers")[1]


def test_a_worker_becomes_celery_with_these_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are settings of the child, so that they mean the same everywhere; what follows `--` is Celery's."""
    became: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda _, command, environment: became.append((command, environment)))
    run("worker", "--queues", "turns,vip", "--concurrency", "7", "--name", "left", "--", "--max-tasks-per-child=3")
    command, environment = became[0]
    assert command[1:] == [*own_program("workers")[1:], *command[4:]], "our `workers`, wherever this is started"
    assert command[4] == "-n"
    assert f"left.{FleetHome(home).tag}@%h" in command
    assert command[-1] == "--max-tasks-per-child=3"
    assert environment["SESSIONFLEET_QUEUES"] == "turns,turns.vip"
    assert environment["SESSIONFLEET_ROLE"] == "turns", "who names queues wants no others"
    assert environment["SESSIONFLEET_CONCURRENCY"] == "7"
    assert environment["REDIS_URL"] == EmbeddedServer(home).redis_url
    run("worker", "--role", "retrieval")
    assert became[1][1]["SESSIONFLEET_ROLE"] == "retrieval"
    run("worker", "--role", "all", "--queues", "vip")
    assert became[2][1]["SESSIONFLEET_ROLE"] == "all"


def test_a_worker_without_its_extra_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web backend's installation has no engine."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for command in ("worker", "up", "flower"):
        with pytest.raises(SessionfleetError, match=r"pip install 'sessionfleet\[worker\]'"):
            run(command)
    with pytest.raises(SessionfleetError, match=r"pip install 'sessionfleet\[worker\]'"):
        ensure_fleet(Settings(home=home))


def test_flower_is_for_this_machine_unless_told(embedded: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower has no login of its own."""
    became: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda _, command, __: became.append(command))
    run("flower", "--", "--port=5999")
    run("flower", "--", "--address=0.0.0.0", "--tasks-columns=name")
    assert became[0][-3:] == ["flower", "--address=127.0.0.1", "--port=5999"]
    assert became[1][-3:] == ["flower", "--address=0.0.0.0", "--tasks-columns=name"]


def qdrant(home: Path, port: int, key: str | None = None) -> Check:
    """The doctor's verdict on a Qdrant server on this port."""
    settings = load_settings().model_copy(
        update={"qdrant_url": f"http://127.0.0.1:{port}", "qdrant_api_key": key, "connect_timeout": 2.0}
    )
    nobody = Activity((), {}, 0)
    return {check.name: check for check in asyncio.run(retrieval_checks(settings, nobody))}["index"]


def test_the_doctor_asks_the_qdrant_server(home: Path) -> None:
    """Version and key; each thing that can be wrong has its own advice."""
    with web_server() as web:
        web.answers = {"/": Answer(b'{"version": "1.16.0"}'), "/collections": Answer(b"{}")}
        good = qdrant(home, web.port, key="secret")
        assert (good.verdict, good.says.partition(" at ")[0]) == (Verdict.OK, "Qdrant 1.16.0")
        assert "key accepted" in good.says
        assert [headers["api-key"] for _, headers in web.asked] == ["secret", "secret"]
        web.answers["/collections"] = Answer(status=401)
        assert "requires a key" in qdrant(home, web.port).says
        refused = qdrant(home, web.port, key="wrong")
        assert "refuses the key" in refused.says
        assert "QDRANT_API_KEY" in refused.advice
        assert "wrong" not in refused.says + refused.advice
        web.answers = {"/": Answer(b'{"version": "1.9.1"}'), "/collections": Answer(b"{}")}
        assert "or newer" in qdrant(home, web.port).advice
        web.answers = {"/": Answer(b"<html>not Qdrant</html>")}
        assert qdrant(home, web.port).verdict is Verdict.BROKEN
    gone = qdrant(home, web.port)
    assert (gone.verdict, "does not answer" in gone.says) == (Verdict.BROKEN, True)


def test_the_doctor_knows_a_key_that_may_only_read(home: Path) -> None:
    """Qdrant accepts it until the first document is added."""
    with QdrantServer(metadata={}) as server:
        port = int(server.url.rpartition(":")[2])
        assert qdrant(home, port, key="secret").verdict is Verdict.OK
        server.fail((200, {"version": "1.19.0"}), (200, {}), (403, {"status": {"error": "Forbidden"}}))
        reads = qdrant(home, port, key="secret")
        assert (reads.verdict, "may not create collections" in reads.says) == (Verdict.WARNING, True)
        assert "QDRANT_API_KEY" in reads.advice
        assert server.requests("POST", "/collections/aliases") == [{"actions": []}] * 2, "which changes nothing"


def test_the_doctor_survives_a_port_that_speaks_tls(home: Path) -> None:
    """QDRANT_URL says http, and the server answers with a TLS alert."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def alert() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x15\x03\x03\x00\x02\x02\x32")

        answering = threading.Thread(target=alert)
        answering.start()
        check = qdrant(home, listening.getsockname()[1])
        answering.join()
    assert (check.verdict, "does not answer" in check.says, "http or https" in check.advice) == (
        Verdict.BROKEN,
        True,
        True,
    )


async def test_the_doctor_looks_for_the_gateway(home: Path) -> None:
    """None is nothing wrong; another program on its port, and one that can have no work done, are."""
    with web_server() as web:
        settings = Settings(home=home, gateway_port=web.port)
        web.answers = {"/health": Answer(b"<html>a shop</html>")}
        assert "another program uses" in (await gateway_check(settings)).says
        web.answers = {"/health": Answer(b'{"server": "sessionfleet"}'), "/ready": Answer(b"{}", status=503)}
        assert (await gateway_check(settings)).verdict is Verdict.BROKEN
        web.answers["/ready"] = Answer(b"{}")
        assert (await gateway_check(settings)).says == f"answers at {web.url('')}"
    gone = await gateway_check(settings)
    assert (gone.verdict, "`sessionfleet gateway` starts one" in gone.says) == (Verdict.OK, True)


async def test_the_doctor_says_who_serves_retrieval(embedded: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, the embedded index of a home, a paid embedding model without its key, a missing extra."""
    checks = {check.name: check for check in await examine(load_settings())}
    assert checks["retrieval"].verdict is Verdict.WARNING
    assert checks["index"].says == "embedded, not opened yet"
    assert checks["embedding"].says.startswith("minilm")
    assert checks["documents"].verdict is Verdict.OK

    embedded.set("sf:v1:{fleet}:index", "0123456789abcdef")
    monkeypatch.setattr("sessions.cli.retrieval_checks.missing_for_retrieval", lambda: "onnxruntime")
    named = load_settings().model_copy(update={"embedding_model": "openai:text-embedding-3-small"})
    checks = {check.name: check for check in await examine(named)}
    assert checks["index"].says == "embedded, home 01234567"
    assert checks["embedding"].verdict is Verdict.WARNING
    assert "OPENAI_API_KEY" in checks["embedding"].advice
    assert checks["documents"].verdict is Verdict.WARNING
    assert "sessionfleet[worker,documents]" in checks["documents"].advice


def test_several_machines_need_a_server_for_documents() -> None:
    """With the embedded index one of them owns all documents, and no worker on another machine can take over."""
    here, there = (_info(host) for host in ("a", "b"))
    assert _embedded("0123456789", Activity((here,), {}, 0)).verdict is Verdict.OK
    split = _embedded("0123456789", Activity((here, there), {}, 0))
    assert (split.verdict, "QDRANT_URL" in split.advice) == (Verdict.WARNING, True)


def _info(host: str) -> WorkerInfo:
    return WorkerInfo(id=f"one@{host}", host=host, pid=1, started=0.0, queues=("turns", "retrieval"), concurrency=1)


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({"role": "master", "connected_slaves": 0}, Verdict.OK),
        ({"role": "master", "connected_slaves": 2}, Verdict.WARNING),
        ({"role": "master", "connected_slaves": 2, "min_slaves_good_slaves": 2}, Verdict.OK),
        ({"role": "slave"}, Verdict.BROKEN),
    ],
)
def test_the_doctor_says_what_a_failover_would_lose(info: dict[str, object], verdict: Verdict) -> None:
    """A primary that Sentinel has replaced accepts writes for ten more seconds, unless they need a replica."""
    assert replication_check(info).verdict is verdict
