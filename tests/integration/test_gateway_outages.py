"""Failures behind the gateway, and in front of it: servers that are down, workers that die, clients that disconnect."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, running_gateway
from tests.support.http import good, problem, sent_events
from tests.support.servers import Server
from tests.support.waiting import wait_until


@pytest.fixture
def gateway(new_server: Server, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway of the test's own."""
    with running_gateway(new_server, tmp_path / "gateway", SESSIONFLEET_CONNECT_TIMEOUT="1") as started:
        yield started


def test_a_store_that_refuses_writes_is_not_ready(
    gateway: GatewayProcess, new_server: Server, new_fleet: Callable[..., Fleet]
) -> None:
    """A server without its replicas answers every read: a load balancer must not send messages here."""
    fleet = new_fleet()
    fleet.start("one")
    fleet.ready()
    with gateway.client() as http, new_server.client() as store:
        assert good(http.get("/ready"))["workers"] == 1
        store.config_set("min-replicas-to-write", 1)
        problem(http.get("/ready"), 503, "StoreUnavailable")
        store.config_set("min-replicas-to-write", 0)
        wait_until(lambda: http.get("/ready").status_code == 200, description="the gateway is ready again", timeout=30)


def test_a_store_that_is_down_is_503_until_it_is_back(
    gateway: GatewayProcess, new_server: Server, new_fleet: Callable[..., Fleet]
) -> None:
    """With Retry-After, and without revealing where the store is; then everything continues, without a restart."""
    fleet = new_fleet()
    fleet.start("one")
    fleet.ready()
    with gateway.client() as http:
        assert good(http.get("/ready"))["workers"] == 1
        with new_server.client() as store:
            store.config_set("appendfsync", "always")  # what is acknowledged is to be there afterwards
        good(http.put("/v1/sessions/s/state/step", json={"value": 1}))
        new_server.kill()
        for method, path, body in (
            ("GET", "/ready", None),
            ("POST", "/agent", {"message": "hi"}),
            ("GET", "/v1/sessions/s", None),
            ("GET", "/v1/sessions/s/state/step", None),
            ("PUT", "/v1/sessions/s/state/step", {"value": 2}),
            ("POST", "/v1/sessions/s/turns", {"message": "hi"}),
            ("GET", f"/v1/sessions/s/turns/s~{'0' * 32}/events", None),
            ("POST", "/v1/sessions/s/memory", {"text": "hi"}),
            ("POST", "/v1/sessions/s/knowledge", {"text": "hi"}),
            ("POST", "/v1/sessions/s/knowledge/search", {"query": "hi"}),
            ("GET", "/v1/agents", None),
            ("POST", "/v1/teams", {"agents": ["assistant"], "tasks": [{"description": "hi"}]}),
        ):
            refused = http.request(method, path, json=body)
            said = problem(refused, 503, "StoreUnavailable")
            assert int(refused.headers["retry-after"]) >= 1
            assert str(new_server.port) not in said["detail"], said
        assert http.get("/health").status_code == 200
        new_server.start()
        wait_until(lambda: http.get("/ready").status_code == 200, description="the gateway is ready again", timeout=30)
        assert good(http.get("/v1/sessions/s/state/step"))["value"] == 1
        turn = http.post("/v1/sessions/s/turns", json={"message": "SAY back"}, headers={"Prefer": "wait=60"})
        assert good(turn)["result"] == "back"
    assert "Traceback" not in gateway.log


def test_a_reader_hears_that_a_worker_died(gateway: GatewayProcess, new_fleet: Callable[..., Fleet]) -> None:
    """`attempt_reset` names the last event that stays valid, and the turn continues to its end."""
    fleet = new_fleet(SESSIONFLEET_LEASE="2")
    fleet.start("one")
    fleet.start("two")
    fleet.ready()
    message = 'CALL look_up({"query": "tea"})\nHANG 1 60\nSAY done'
    body = {"message": message, "agent": {"name": "A", "tools": ["look_up"]}, "stream": True}
    with gateway.client() as http:
        path = http.post("/v1/sessions/crashed/turns", json=body).headers["location"]
        with http.stream("GET", f"{path}/events") as stream:
            events = sent_events(stream.iter_lines())
            seen = [next(events), next(events), next(events)]
            fleet.worker_of_pid(fleet.noted("hung")[0]["pid"]).signal(signal.SIGKILL)
            seen += list(events)
        types = [event.type for event in seen]
        assert types[-1] == "ended"
        reset = seen[types.index("attempt_reset")]
        assert reset.data["valid_through"] in [event.id for event in seen]
        assert good(http.get(path))["result"] == "done"


def test_who_hangs_up_ends_the_waiting_and_nothing_else(
    gateway: GatewayProcess, new_fleet: Callable[..., Fleet]
) -> None:
    """For a turn's end, an answer, or events that do not come: the request ends at once, the turn continues."""
    fleet = new_fleet()
    fleet.start("one")
    fleet.ready()
    with gateway.client() as http:
        slow = {"message": "HANG 0 3\nSAY there", "session_id": "left"}
        impatient = httpx.Timeout(10.0, read=0.3)
        with pytest.raises(httpx.ReadTimeout):
            http.post("/agent", json=slow, timeout=impatient)
        with pytest.raises(httpx.ReadTimeout):
            http.post(
                "/v1/sessions/left/turns",
                json={"message": "SAY next"},
                headers={"Prefer": "wait=60"},
                timeout=impatient,
            )
        wait_until(lambda: gateway.log.count("status=499") == 2, description="both requests ended", timeout=10)
        assert len(fleet.noted("model_started")) == 1
        ended = wait_until(
            lambda: http.get("/v1/sessions/left").json()["turns"] == 2, description="both turns end", timeout=30
        )
        assert ended
    assert "Traceback" not in gateway.log


def test_a_gateway_that_is_stopped_answers_who_waits(gateway: GatewayProcess, new_fleet: Callable[..., Fleet]) -> None:
    """With the turn as it is, or 503 for a request that wanted an answer; another gateway continues both."""
    fleet = new_fleet()
    fleet.start("one")
    fleet.ready()
    turned, asking = ({"message": f"HANG 0 5\nSAY {who}"} for who in ("turned", "asked"))
    with gateway.client() as http, ThreadPoolExecutor() as pool:
        waiting = pool.submit(http.post, "/v1/sessions/stopped/turns", json=turned, headers={"Prefer": "wait=100"})
        asked = pool.submit(http.post, "/agent", json={**asking, "session_id": "asked"})
        fleet.noted("hung", 2)
        gateway.stop()
        turn = good(waiting.result(), 202)
        assert turn["status"] == "running"
        problem(asked.result(), 503, "GatewayStopping")
    assert "Traceback" not in gateway.log
    gateway.start()
    with gateway.client() as http:
        assert good(http.get(turn["links"]["self"], headers={"Prefer": "wait=30"}))["result"] == "turned"
