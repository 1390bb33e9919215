"""What an operator sees of the fleet: in Flower each wake-up and how it ended, in the log each turn; never a text."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessions import Session
from sessions.errors import TurnFailed
from tests.support import preloaded
from tests.support.broker import queue_key
from tests.support.fleet import ROOT, Fleet
from tests.support.servers import Server, free_port, running
from tests.support.waiting import wait_until

SECRET = "my-card-is-4711-0815"


class Flower:
    """Flower in a separate process, and what its HTTP API returns."""

    def __init__(self, fleet: Fleet) -> None:
        self.port = free_port()
        self.log_path = fleet.folder / "flower.log"
        env = {
            **os.environ,
            "REDIS_URL": fleet.server.url,
            "PYTHONPATH": str(ROOT),
            "FLOWER_UNAUTHENTICATED_API": "true",
        }
        command = ["-m", "celery", "-A", "workers", "flower", f"--port={self.port}", "--address=127.0.0.1"]
        with self.log_path.open("ab") as log:
            self.process = preloaded.start(
                [sys.executable, "-W", "ignore", *command], env=env, cwd=fleet.folder, stdout=log, stderr=log
            )

    def get(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.loads(reply.read())
        except (urllib.error.URLError, ConnectionError):
            return None

    def close(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait()


class Overheard:
    """Everything that is published on the broker: Celery's events among it."""

    def __init__(self, server: Server) -> None:
        self.messages: list[dict[str, Any]] = []
        self._client = server.client()
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("*")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            message = self._pubsub.get_message(timeout=0.1)
            if message is not None:
                self.messages.append(message)

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for message in list(self.messages):
            if b"sessionfleet.events" in message["channel"]:
                body = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
                found += body if isinstance(body, list) else [body]
        return found

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._pubsub.close()
        self._client.close()


class Watched:
    """A fleet of one worker that logs JSON, with Flower, and with everything that its broker publishes."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.overheard = Overheard(fleet.server)
        self.flower = Flower(fleet)

    def start(self) -> None:
        """Have a turn accepted, and start the worker; Flower asks it for events when it hears of it."""
        self.first = self.fleet.session(f"first-{uuid.uuid4().hex}")
        turn = self.first.Agent("A").submit(f"SAY {SECRET}")
        with self.fleet.server.client() as client:
            (self.wake,) = client.lrange(queue_key("turns"), 0, -1)
        self.fleet.start("w1")
        self.fleet.ready()
        seen = "Flower sees the worker"
        wait_until(lambda: self.flower.get("/api/workers?refresh=1"), description=seen, timeout=40)
        assert turn.result(timeout=30) == SECRET

    def task(self, session: Session, state: str, run: Callable[[], None]) -> dict[str, Any]:
        """A wake-up of the session as Flower shows it in this state; `run` makes one."""

        def shown() -> dict[str, Any] | None:
            run()
            # Events begin in the middle of some wake: of that one Flower has the end without the beginning.
            tasks = (self.flower.get("/api/tasks") or {}).values()
            ended = [t for t in tasks if t["state"] == state and session.session_id in (t["args"] or "")]
            return ended[0] if ended else None

        return wait_until(shown, description=f"Flower shows a wake-up as {state}", timeout=40)

    def lines(self, **what: Any) -> list[dict[str, Any]]:
        """The lines of the worker's log that have these fields; besides them there is only Celery's banner."""
        lines = [json.loads(line) for line in self.fleet.workers[0].log.splitlines() if line.startswith("{")]
        return [line for line in lines if what.items() <= line.items()]

    def close(self) -> None:
        self.flower.close()
        self.overheard.close()
        self.fleet.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with running(Server(folder / "server")) as server:
        watched = Watched(Fleet(folder / "fleet", server, {"SESSIONFLEET_LOG_JSON": "1"}))
        try:
            watched.start()
            yield watched
        finally:
            watched.close()


def test_flower_shows_wakes_and_no_text(watched: Watched) -> None:
    """Session key, counts and run time are in the API and the events; the message is nowhere, not in a log either."""
    fleet, flower, overheard = watched.fleet, watched.flower, watched.overheard
    body = base64.b64decode(json.loads(watched.wake)["body"]).decode()
    assert watched.first.session_id in body
    assert SECRET not in body
    assert SECRET not in watched.wake.decode()

    session = fleet.session(f"flower-{uuid.uuid4().hex}")

    def run() -> None:
        assert session.Agent("A", tools=["look_up"]).chat(f"SAY {SECRET}") == SECRET

    task = watched.task(session, "SUCCESS", run)
    assert session.session_id in task["result"]
    assert "'turns': 1, 'succeeded': 1, 'end': 'done'" in task["result"]
    assert task["runtime"] > 0
    assert task["name"] == "sessionfleet.run_session"

    def received() -> bool:
        return any(e["type"] == "task-received" and session.session_id in e["args"] for e in overheard.events())

    wait_until(received, description="the wake is among the events that were published")
    events = overheard.events()
    everything = json.dumps([flower.get("/api/tasks"), flower.get(f"/api/task/info/{task['uuid']}"), events])
    assert SECRET not in everything
    assert all(SECRET.encode() not in message["data"] for message in overheard.messages)
    assert SECRET not in fleet.workers[0].log
    assert SECRET not in flower.log_path.read_text()


def test_flower_shows_a_failed_turn_as_a_failure(watched: Watched) -> None:
    """With counts and not with the error's text, which may quote the message. To wait for an approval is no failure."""
    session = watched.fleet.session(f"fails-{uuid.uuid4().hex}")

    def run() -> None:
        with pytest.raises(TurnFailed):
            session.Agent("A").chat(f"FAIL 400 99\nSAY {SECRET}")

    task = watched.task(session, "FAILURE", run)
    assert "'turns': 1, 'failed': 1" in task["exception"]
    assert session.session_id in task["exception"]
    assert SECRET not in json.dumps([watched.flower.get("/api/tasks"), watched.overheard.events()])
    assert "celery.app.trace" not in {line["logger"] for line in watched.lines()}, "our own lines say it"

    waits = watched.fleet.session(f"waits-{uuid.uuid4().hex}")
    turn = waits.Agent("A", tools=["refund"]).submit('CALL refund({"amount": 3})')
    wait_until(turn.approvals, description="the turn waits")
    shown = watched.task(waits, "SUCCESS", lambda: None)
    assert "'turns': 0, 'end': 'waiting'" in shown["result"]
    turn.cancel()


def test_flower_lists_sessions_and_results(watched: Watched) -> None:
    """In its list of tasks, however it is started: the names of tasks are all the same, and say nothing."""
    with urllib.request.urlopen(f"http://127.0.0.1:{watched.flower.port}/tasks", timeout=10) as reply:
        page = reply.read().decode()
    columns = re.findall(r"<th[^>]*>\s*(\w[^<]*?)\s*</th>", page)
    assert columns[:4] == ["args", "State", "Result", "Exception"]


def test_the_log_has_a_line_for_each_turns_begin_and_end(watched: Watched) -> None:
    """With fields that programs can count and add up; a traceback is a separate field."""
    session = watched.fleet.session(f"logged-{uuid.uuid4().hex}")
    agent = session.Agent("Clerk", tools=["look_up"])
    good = agent.submit('CALL look_up({"query": "x"})')
    good.result(timeout=30)
    bad = agent.submit(f"FAIL 400 99\nSAY {SECRET}")
    with pytest.raises(TurnFailed):
        bad.result(timeout=30)
    (ended,) = wait_until(lambda: watched.lines(event="turn_ended", turn=good.id), description="the end is logged")
    (started,) = watched.lines(event="turn_started", turn=good.id)
    same = {"agent": "Clerk", "model": "double", "attempt": 1, "session": session.keys.ref, "level": "info"}
    assert same.items() <= started.items()
    assert same.items() <= ended.items()
    assert started["queued_ms"] >= 0
    assert (ended["status"], ended["requests"], ended["tool_calls"]) == ("succeeded", 2, 1)
    assert (ended["unpriced_requests"], "cost" in ended) == (2, False)  # nobody knows what the double costs
    assert ended["input_tokens"] > 0
    assert ended["output_tokens"] > 0
    assert ended["ms"] >= 0
    (failed,) = wait_until(lambda: watched.lines(event="turn_ended", turn=bad.id), description="the failure is logged")
    assert (failed["status"], failed["error"]) == ("failed", bad.record().error.type)
    (why,) = watched.lines(event="turn_failed", turn=bad.id)
    assert why["exception"]["type"].endswith(failed["error"])
    assert "Traceback" in why["exception"]["traceback"]
    clerk = session.Agent("clerk", registered=True).submit("SAY hello")
    clerk.result(timeout=30)
    (line,) = wait_until(lambda: watched.lines(event="turn_ended", turn=clerk.id), description="that end is logged")
    assert (line["agent"], line["model"]) == ("clerk", "function:double"), "the model of the workers' own agent"
    plain = [line for line in watched.fleet.workers[0].log.splitlines() if not line.startswith("{")]
    assert "Traceback" not in json.dumps([{**why, "exception": None}, *plain])
