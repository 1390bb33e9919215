"""`celery -A workers flower` shows the fleet: each wake with session, counts and run time, never a text."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.fleet import ROOT, Fleet
from tests.support.servers import Server, free_port
from tests.support.waiting import wait_until

SECRET = "my-card-is-4711-0815"


class Flower:
    """A Flower of its own process, and what its HTTP API says."""

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
            self.process = subprocess.Popen(
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
        self.process.terminate()
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
            if b"celeryev" in message["channel"]:
                body = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
                found += body if isinstance(body, list) else [body]
        return found

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._pubsub.close()
        self._client.close()


@pytest.fixture
def flowering(new_fleet: Callable[..., Fleet]) -> Iterator[tuple[Fleet, Flower, Overheard]]:
    fleet = new_fleet()
    overheard = Overheard(fleet.server)
    flower = Flower(fleet)
    try:
        yield fleet, flower, overheard
    finally:
        flower.close()
        overheard.close()


def test_flower_shows_wakes_and_no_text(flowering: tuple[Fleet, Flower, Overheard]) -> None:
    """Session key, counts and run time are in the API and the events; the message is nowhere, not in a log either."""
    fleet, flower, overheard = flowering
    session = fleet.session(f"flower-{uuid.uuid4().hex}")
    first = session.Agent("A").submit(f"SAY {SECRET}")
    with fleet.server.client() as client:
        (wake,) = client.lrange("turns", 0, -1)
    body = base64.b64decode(json.loads(wake)["body"]).decode()
    assert session.session_id in body
    assert SECRET not in body
    assert SECRET not in wake.decode()

    fleet.start("w1")
    fleet.ready()
    assert first.result(timeout=30) == SECRET
    # Flower asks the workers for events when it hears of them.
    wait_until(lambda: flower.get("/api/workers?refresh=1"), description="Flower sees the worker", timeout=40)

    def shown() -> dict[str, Any] | None:
        assert session.Agent("A", tools=["look_up"]).chat(f"SAY {SECRET}") == SECRET
        # Events begin in the middle of some wake: of that one Flower has the end without the beginning.
        done = [t for t in (flower.get("/api/tasks") or {}).values() if t["state"] == "SUCCESS" and t["args"]]
        return done[0] if done else None

    task = wait_until(shown, description="Flower shows a wake that ended", timeout=40)
    assert session.session_id in task["args"]
    assert session.session_id in task["result"]
    assert "'turns': 1" in task["result"]
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
