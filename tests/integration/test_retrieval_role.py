"""Which workers serve retrieval, what a fleet does without one, and with a Qdrant server that does not answer."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sessions import EventType, Session
from sessions.errors import NoWorkerAlive, RetrievalUnavailable
from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet, running_fleet
from tests.support.servers import Server, running
from workers.retrieval.index.ownership import try_claim

RULE = "Each employee has 28 days of paid holiday in a year."
START = "sessionfleet worker --role retrieval"


def sid() -> str:
    return f"role-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def lone(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Session]]:
    """A fleet that runs turns, and whose retrieval worker has left; a session that has a document."""
    with running(Server(tmp_path_factory.mktemp("server"))) as own:
        env = {"SESSIONFLEET_RETRIEVAL_TIMEOUT": "1.5"}
        workers = {role: {"SESSIONFLEET_ROLE": role} for role in ("turns", "retrieval")}
        with running_fleet(tmp_path_factory.mktemp("lone"), own, env, workers) as fleet:
            infos = {info.id.partition("@")[0]: info.queues for info in fleet.registered()}
            assert infos == {"turns": ("turns",), "retrieval": ("retrieval",)}
            session = fleet.session(sid(), knowledge=True)
            session.add_knowledge(RULE.encode(), name="rules.txt", timeout=60)
            fleet.workers[1].terminate()
            yield fleet, session


def test_a_search_that_nobody_can_do_says_what_to_start(lone: tuple[Fleet, Session]) -> None:
    """For knowledge and memory, at the end of the wait; the list needs no worker."""
    _, session = lone
    with pytest.raises(NoWorkerAlive, match=START):
        session.search_knowledge("holiday", timeout=0.5)
    session.add_memory("The cat is called Nimbus")
    with pytest.raises(NoWorkerAlive, match=START):
        session.search_memory("cat")
    assert [entry["source"] for entry in session.list_knowledge()] == ["rules.txt"]


def test_an_agent_answers_without_what_it_cannot_look_up(lone: tuple[Fleet, Session]) -> None:
    """Its stream says why nothing was recalled, and neither its turn nor its tool waits for a worker to come."""
    fleet, session = lone
    turn = session.Agent("A").submit('CALL search_knowledge({"query": "holiday"})')
    assert START in turn.result(timeout=30)
    told = [event.data for event in turn.events() if event.type is EventType.RETRIEVED]
    assert [(data["memories"], data["chunks"]) for data in told] == [(0, 0)]
    assert START in told[0]["why"]
    record = turn.record()
    assert record.ended_ms is not None
    assert record.started_ms is not None
    assert (record.ended_ms - record.started_ms) / 1000 < fleet.settings.retrieval_timeout, "it waited for nobody"


def test_a_session_with_documents_is_not_deleted_by_halves(lone: tuple[Fleet, Session]) -> None:
    """No worker can remove its chunks: nothing is removed, and what is being added to it is not cancelled."""
    _, session = lone
    session.Agent("A").chat("SAY hello")
    waiting = session.submit_knowledge(b"Another rule.", name="waiting.txt")
    before = (session.list_knowledge(), session.history(), waiting.status)
    with pytest.raises(NoWorkerAlive, match=f"nothing was changed.*{START}"):
        session.delete()
    assert (session.list_knowledge(), session.history(), waiting.status) == before
    assert not waiting.status.final
    waiting.cancel()


def worker(fleet: Fleet, home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`sessionfleet worker ...` that is expected to end at once."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
    environment = {**kept, "REDIS_URL": fleet.server.url, "SESSIONFLEET_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-m", "sessions.cli.main", "worker", *options]
    return preloaded.run(command, env=environment, timeout=60)


def test_a_worker_that_cannot_serve_retrieval_says_why(lone: tuple[Fleet, Session], tmp_path: Path) -> None:
    """The index is another process's, or this home's is not the one that has the documents."""
    fleet, _ = lone
    done = worker(fleet, tmp_path, "--role", "retrieval", "--name", "elsewhere")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "in the embedded index of another home" in said
    assert "QDRANT_URL" in said
    assert "Traceback" not in said

    home = fleet.folder / "other-home"
    with owned(home / "knowledge") as owner:
        done = worker(fleet, home, "--role", "retrieval", "--name", "second")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert f"is owned by process {owner}" in said
    assert "Traceback" not in said


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[int]:
    """A folder that this process owns."""
    lock = try_claim(folder)
    assert lock is not None
    yield os.getpid()
    lock.release()


class _Busy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@pytest.fixture
def busy_qdrant() -> Iterator[ThreadingHTTPServer]:
    """A Qdrant server that answers 503 whatever it is asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Busy)
    server.asked = []  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_qdrant_that_does_not_answer_is_asked_again_in_order(
    new_fleet: Callable[..., Fleet], busy_qdrant: ThreadingHTTPServer
) -> None:
    """After growing pauses; then the document fails, the next one of the lane is tried, and turns continue."""
    fleet = new_fleet(
        QDRANT_URL=f"http://127.0.0.1:{busy_qdrant.server_port}",
        SESSIONFLEET_MODEL_RETRIES="1",
        SESSIONFLEET_MODEL_BACKOFF="0.2",
    )
    fleet.start("all")
    fleet.ready()
    session = fleet.session(sid())
    first = session.submit_knowledge(RULE.encode(), name="first.txt")
    second = session.submit_knowledge(b"Another rule.", name="second.txt")
    assert session.Agent("A").chat("SAY meanwhile", timeout=30) == "meanwhile"
    with pytest.raises(RetrievalUnavailable, match=r"503.*tried 2 times"):
        first.result(timeout=60)
    kinds = [event.type for event in first.events()]
    assert kinds.count(EventType.RETRYING) == 1
    with pytest.raises(RetrievalUnavailable):
        second.result(timeout=60)
    began, ended = second.record().started_ms, first.record().ended_ms
    assert began is not None
    assert ended is not None
    assert began >= ended, "the second waited for the first"
    assert session.list_knowledge() == []
    assert len(busy_qdrant.asked) > 4  # type: ignore[attr-defined]
