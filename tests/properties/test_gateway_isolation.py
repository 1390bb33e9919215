"""No request of one caller reads or changes what another has, over every route that OpenAPI lists (P8)."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, made_key, running_gateway
from tests.support.http import good
from tests.support.servers import Server, running
from tests.support.tokens import jwk_set, public_jwk, token
from tests.support.waiting import wait_until

MARK = "the-combination-is-7391"
SESSION = "alices:session"
ALICE = {"X-User-ID": "alice"}
KEYED = {"Idempotency-Key": "alices key"}
EVERYTHING = ("read", "write", "approve", "configure", "admin")
PROBES = {"/health", "/ready", "/agent/health", "/agent/{name}/health"}

BODIES: dict[tuple[str, str], list[dict[str, Any] | None]] = {
    ("POST", "/agent"): [
        {"message": "hi", "session_id": SESSION},
        {"message": "hi", "session_id": SESSION, "user_id": "alice"},
    ],
    ("POST", "/agent/{name}"): [{"message": "hi", "session_id": SESSION}],
    ("POST", "/v1/sessions"): [{"session_id": SESSION}, {"session_id": SESSION, "ttl": 0.01}],
    ("POST", "/v1/sessions/{session_id}/fork"): [None, {"session_id": "mine"}],
    ("POST", "/v1/sessions/{session_id}/turns"): [
        {"message": "hi"},
        {"message": "hi", "policy": "rollback"},
        {"message": "hi", "policy": "steer"},
        {"message": "hi", "on_disconnect": "cancel"},
    ],
    ("POST", "/v1/sessions/{session_id}/turns/{turn_id}/approvals/{call_id}"): [
        {"action": "approve"},
        {"action": "deny", "reason": "no"},
        {"action": "provide", "result": "mine"},
    ],
    ("PATCH", "/v1/sessions/{session_id}/state"): [{"values": {"secret": 0}}, {"values": {"user:secret": 0}}],
    ("PUT", "/v1/sessions/{session_id}/state/{key}"): [{"value": 0}],
    ("POST", "/v1/sessions/{session_id}/state/{key}/increment"): [None, {"amount": 2}],
    ("POST", "/v1/sessions/{session_id}/checkpoints"): [None, {"values": {"secret": 0}}],
    ("POST", "/v1/sessions/{session_id}/memory"): [{"text": "x"}, {"text": "x", "scope": "user"}],
    ("PATCH", "/v1/sessions/{session_id}/memory/{memory_id}"): [{"text": "x"}, {"text": "x", "version": 1}],
    ("POST", "/v1/sessions/{session_id}/memory/search"): [
        {"query": "combination"},
        {"query": "combination", "scope": "user"},
    ],
    ("POST", "/v1/sessions/{session_id}/knowledge"): [
        {"text": "x", "name": "plan.txt"},
        {"text": "x", "scope": "user"},
    ],
    ("POST", "/v1/sessions/{session_id}/knowledge/search"): [
        {"query": "combination"},
        {"query": "combination", "scope": "user"},
    ],
    ("PATCH", "/v1/sessions/{session_id}"): [{"title": "x"}, {"searchable": True}],
    ("POST", "/v1/sessions/{session_id}/messages/search"): [{"query": "combination"}],
    ("POST", "/v1/messages/search"): [{"query": "combination"}],
    ("PUT", "/v1/sessions/{session_id}/shares/{user_id}"): [{"rights": "write"}],
    ("POST", "/v1/sessions/{session_id}/regenerate"): [{}],
    ("POST", "/v1/sessions/{session_id}/files"): [None],
    ("POST", "/v1/sessions/import"): [None],
    ("POST", "/v1/sessions/{session_id}/schedules"): [{"cron": "0 9 * * *", "message": "hi"}],
    ("PATCH", "/v1/sessions/{session_id}/schedules/{schedule_id}"): [{"paused": True}, {"message": "hi"}],
    ("PUT", "/v1/agents/{name}"): [{"instructions": "Obey."}],
    ("POST", "/v1/teams"): [{"agents": ["assistant"], "tasks": [{"description": "x"}]}],
}
"""The bodies to send to routes that take one: a new route needs a line here."""

QUERIES = {"scope": ["user"], "after": ["1-1"], "open": ["1"], "on_disconnect": ["cancel"]}


@dataclass
class Edge:
    """A gateway, what alice of the tenant `acme` has behind it, and its paths."""

    gateway: GatewayProcess
    server: Server
    names: dict[str, str]

    def all_of_alice(self) -> dict[str, Any]:
        """Everything of hers in the store, with its lifetimes."""
        found: dict[str, Any] = {}
        with self.server.client() as client:
            for raw in client.scan_iter("sf:v1:*", count=1000):
                name = raw.decode()
                if ":acme:" in name and "alice" in name:
                    found[name] = (client.dump(raw), client.pexpiretime(raw))
                elif name.endswith(":wakeups"):
                    waiting = client.zrange(raw, 0, -1, withscores=True)
                    found[name] = [entry for entry in waiting if b"acme:" in entry[0] and b"alice" in entry[0]]
        return {name: value for name, value in found.items() if value}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Alice's things were made with a worker; the worker is gone then, so that nothing changes by itself."""
    folder = tmp_path_factory.mktemp("isolation")
    (folder / "jwks.json").write_bytes(jwk_set(public_jwk("ES256", "k1")))
    settings = {
        "SESSIONFLEET_GATEWAY_JWKS": str(folder / "jwks.json"),
        "SESSIONFLEET_RETRIEVAL_TIMEOUT": "0.2",
        "SESSIONFLEET_GATEWAY_RATE": "0",
    }
    with running(Server(folder / "server")) as server:
        fleet = Fleet(folder / "fleet", server, {"SESSIONFLEET_ROLE": "turns"})
        try:
            worker = fleet.start("maker")
            with running_gateway(server, folder, **settings) as gateway:
                fleet.ready()
                with gateway.client(made_key(server, tenant="acme", acts_for_users=True, rights=EVERYTHING)) as client:
                    names = hers(client)
                worker.kill()
                yield Edge(gateway, server, names)
        finally:
            fleet.close()


def hers(client: httpx.Client) -> dict[str, str]:
    """Make what alice has, by the names that paths know it by."""
    session = f"/v1/sessions/{quote(SESSION, safe='')}"

    def made(path: str, body: dict[str, Any], status: int, **headers: str) -> Any:
        return good(client.post(path, json=body, headers={**ALICE, **KEYED, **headers}), status)

    done = made(f"{session}/turns", {"message": f"SAY {MARK}"}, 200, Prefer="wait=30")
    assert done["result"] == MARK
    for values in ({"secret": MARK, "number": 1}, {"user:secret": MARK}):
        good(client.patch(f"{session}/state", json={"values": values}, headers=ALICE))
    made(f"{session}/checkpoints", {}, 201)
    memory = made(f"{session}/memory", {"text": MARK}, 201)["id"]
    made(f"{session}/memory", {"text": MARK, "scope": "user"}, 201)
    schedule = {"cron": "0 0 29 2 *", "message": f"SAY {MARK}", "schedule_id": "leap"}
    made(f"{session}/schedules", schedule, 201)
    operation = made(f"{session}/knowledge", {"text": MARK, "name": "plan.txt"}, 202)["id"]
    team = {"agents": ["assistant"], "tasks": [{"description": f"SAY {MARK}"}]}
    run = made("/v1/teams", team, 200, Prefer="wait=30")["id"]
    call = {"name": "Clerk", "tools": ["refund"]}
    refund = {"message": 'CALL refund({"amount": 7391})', "agent": call}
    asked = made(f"{session}/turns", refund, 202, **{"Idempotency-Key": "another key"})["id"]
    waiting = wait_until(
        lambda: good(client.get(f"{session}/turns/{asked}/approvals", headers=ALICE))["approvals"],
        description="the call waits",
    )
    return {
        "session_id": SESSION, "turn_id": asked, "call_id": waiting[0]["call_id"], "key": "secret", "number": "1",
        "memory_id": memory, "operation_id": operation, "source": "plan.txt", "run_id": run, "name": "assistant",
        "done": done["id"], "user_id": "bob", "file_id": "0" * 64, "schedule_id": "leap", "tool": "refund",
    }  # fmt: skip


def requests_of(paths: dict[str, Any], names: dict[str, str]) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Every operation that there is, aimed at what alice has: method, path with query, body."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            if path in PROBES:
                continue
            verb = method.upper()
            assert ("requestBody" in operation) == ((verb, path) in BODIES), f"{verb} {path} needs a line in BODIES"
            given = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            queries = [""] + [f"?{name}={value}" for name in given for value in QUERIES.get(name, [])]
            turns = [names["turn_id"], names["done"]] if "{turn_id}" in path else [names["turn_id"]]
            keys = ["secret", "number", "user:secret"] if "{key}" in path else ["secret"]
            bodies = BODIES.get((verb, path), [None])
            for turn, key, query, body in itertools.product(turns, keys, queries, bodies):
                filled = {**names, "turn_id": turn, "key": key}
                yield verb, re.sub(r"{(\w+)}", lambda m: quote(filled[m[1]], safe="~"), path) + query, body  # noqa: B023


def attackers(server: Server) -> dict[str, tuple[str, list[dict[str, str]]]]:
    """Credentials that are not alice's of acme, and the headers that they try."""
    mine = {"rights": ("read", "write", "approve")}
    return {
        "a backend of another tenant": (
            made_key(server, tenant="globex", acts_for_users=True, rights=EVERYTHING),
            [{}, ALICE, KEYED],
        ),
        "another user": (made_key(server, tenant="acme", user="bob", **mine), [{}, ALICE, KEYED]),
        "a key without a user": (made_key(server, tenant="acme", **mine), [{}, KEYED]),
        "another user's token": (
            token({"sub": "bob", "tenant": "acme", "scope": "read write sessionfleet:approve"}),
            [{}, KEYED],
        ),
        "her name in another tenant": (token({"sub": "alice", "tenant": "globex"}), [{}, KEYED]),
        "another user of a backend": (
            made_key(server, tenant="acme", acts_for_users=True, **mine),
            [{"X-User-ID": "bob"}, {"X-User-ID": "Alice"}],
        ),
    }


def test_no_request_of_one_reads_or_changes_anything_of_another(edge: Edge) -> None:
    """Of another tenant nothing at all; of another user of one's own tenant nothing that is that user's."""
    with edge.gateway.client() as client:
        paths = good(client.get("/openapi.json"))["paths"]
    before, tried = edge.all_of_alice(), 0
    assert any(":turn:" in name for name in before)
    for who, (credential, tries) in attackers(edge.server).items():
        with edge.gateway.client(credential) as client:
            for headers, (method, path, body) in itertools.product(tries, requests_of(paths, edge.names)):
                said = answer(client, method, path, body, headers)
                assert MARK not in said, f"{who}: {method} {path} {body}: {said}"
                tried += 1
        assert_unchanged(before, edge.all_of_alice(), who)
    assert tried > 400


def assert_unchanged(before: dict[str, Any], after: dict[str, Any], who: str) -> None:
    """Nothing of hers is other than it was, apart from what has expired (remembered operations do, after a minute)."""
    soon = (time.time() + 5) * 1000
    gone = {name for name, value in before.items() if isinstance(value, tuple) and 0 < value[1] < soon}
    assert {k: v for k, v in after.items() if k not in gone} == {k: v for k, v in before.items() if k not in gone}, who


def answer(
    client: httpx.Client,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    headers: dict[str, str],
    patience: float = 0.3,
) -> str:
    """Status and body, as far as they come within a moment: who may wait for a turn of its own waits for a worker."""
    got: list[str] = []
    content = None if body is None else json.dumps(body)
    sent = {**headers, **({} if body is None else {"Content-Type": "application/json"})}
    try:
        with client.stream(method, path, content=content, headers=sent, timeout=patience) as response:
            got.append(str(response.status_code))
            got.extend(response.iter_text())
    except httpx.TimeoutException:
        got.append("...")
    return " ".join(got)


def test_alice_herself_sees_it_all(edge: Edge) -> None:
    """The test above looks at the right things: with her own credential the mark is there."""
    with edge.gateway.client(token({"sub": "alice", "tenant": "acme"})) as client:
        session = f"/v1/sessions/{quote(SESSION, safe='')}"
        for path in (
            f"{session}/messages",
            f"{session}/state",
            f"{session}/state/user:secret",
            f"{session}/memory",
            f"{session}/memory?scope=user",
            f"{session}/turns/{edge.names['done']}",
            f"/v1/teams/{edge.names['run_id']}",
        ):
            assert MARK in answer(client, "GET", path, None, {}, patience=30), path
