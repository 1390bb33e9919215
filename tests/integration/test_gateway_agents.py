"""Agents by name and teams over HTTP, on a real gateway with real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from sessions import Agent, AgentDirectory, Session
from sessions.errors import BadRequest
from sessions.gateway.principal import Principal, Right
from sessions.gateway.routes.agents import AgentDefinition, AgentResource
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, made_key
from tests.support.http import good, problem, sent_events
from tests.support.servers import Server

pytestmark = pytest.mark.usefixtures("fleet")
WAIT = {"Prefer": "wait=30"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def http(gateway_process: GatewayProcess) -> Iterator[httpx.Client]:
    """A client for the gateway that tests share."""
    with gateway_process.client() as client:
        yield client


def listed(http: httpx.Client) -> dict[str, str]:
    """The agents, and where their definitions come from."""
    return {agent["name"]: agent["source"] for agent in good(http.get("/v1/agents"))["agents"]}


def test_an_agent_is_defined_used_and_forgotten(http: httpx.Client, fleet: Fleet) -> None:
    """201, then 200; turns and /agent name it; a session that used it keeps it, others do not have it."""
    path = "/v1/agents/Travel%20desk%2F2"
    body = {"instructions": "You book trains.", "tools": ["refund"], "memory": True, "knowledge": ["handbook"]}
    assert http.put(path, json={}).status_code == 201
    defined = good(http.put(path, json=body))
    assert (defined["name"], defined["source"]) == ("Travel desk/2", "tenant")
    assert {key: defined["definition"][key] for key in body} == body
    assert good(http.get(path)) == defined
    assert listed(http)["Travel desk/2"] == "tenant"
    assert good(http.get("/agent/Travel%20desk%2F2/health"))["agent"] == "Travel desk/2"
    remote = Session("desk-0", agent_url=f"{http.base_url}/agent/Travel%20desk%2F2")
    assert (remote.chat("SAY remote"), remote.get_context()["agents"]) == ("remote", ["Travel desk/2"])
    said = good(http.post("/agent/Travel%20desk%2F2", json={"message": "SAY booked", "session_id": "desk"}))
    assert (said["content"], said["metadata"]["agent_name"]) == ("booked", "Travel desk/2")
    by_turn = {"message": "CALL read_state({})", "agent": "Travel desk/2"}
    unknown_tool = good(http.post("/v1/sessions/desk-2/turns", json=by_turn, headers=WAIT))["result"]
    assert "Available tools: " in unknown_tool
    assert "'refund'" in unknown_tool
    assert http.delete(path).status_code == 204
    problem(http.delete(path), 404, "NotFound")
    problem(http.get(path), 404, "NotFound")
    said = problem(http.post("/agent/Travel%20desk%2F2", json={"message": "hi"}), 404, "NotFound")
    assert "'assistant'" in said["detail"]
    assert http.post("/agent/Travel%20desk%2F2", json={"message": "hi", "session_id": "desk"}).status_code == 200


def test_a_definition_wins_over_the_workers_agent(http: httpx.Client) -> None:
    """`clerk` is registered with the workers; the tenant may say otherwise, and take it back."""
    assert listed(http)["clerk"] == "workers"
    assert good(http.get("/v1/agents/clerk"))["definition"] is None
    good(http.put("/v1/agents/clerk", json={"instructions": "You are another clerk."}), 201)
    try:
        assert listed(http)["clerk"] == "tenant"
        asked = {"message": 'CALL stamp({"text": "x"})', "session_id": "clerk-1"}
        assert "Unknown tool name: 'stamp'" in good(http.post("/agent/clerk", json=asked))["content"]
    finally:
        assert http.delete("/v1/agents/clerk").status_code == 204
    asked["session_id"] = "clerk-2"
    assert good(http.post("/agent/clerk", json=asked))["content"] == "ok: stamped x"


def test_the_assistant_is_redefined_and_never_missing(http: httpx.Client) -> None:
    """However its name is written; deleting the definition brings the default one back."""
    assert listed(http)["assistant"] == "default"
    good(http.put("/v1/agents/ASSISTANT", json={"instructions": "Be brief.", "tools": ["look_up"]}), 201)
    try:
        assert good(http.get("/v1/agents/assistant"))["definition"]["instructions"] == "Be brief."
        asked = {"query": 'CALL look_up({"query": "tea"})'}
        assert "tea" in good(http.post("/agent", json=asked))["response"]
    finally:
        assert http.delete("/v1/agents/Assistant").status_code == 204
    problem(http.delete("/v1/agents/assistant"), 404)
    assert "Unknown tool" in good(http.post("/agent/assistant", json=asked))["response"]


def test_a_repeat_is_known_although_its_agent_changed_meanwhile(http: httpx.Client) -> None:
    """A caller that asks by name cannot know that the name was redefined, or deleted: the same turn."""
    key = {"Idempotency-Key": "defined-anew"}
    asked = {"message": "SAY once", "session_id": "defined-anew"}
    good(http.put("/v1/agents/Changing", json={"instructions": "One."}), 201)
    first = good(http.post("/agent/Changing", json=asked, headers=key))["metadata"]["turn_id"]
    good(http.put("/v1/agents/Changing", json={"instructions": "Two."}))
    assert good(http.post("/agent/Changing", json=asked, headers=key))["metadata"]["turn_id"] == first
    assert http.delete("/v1/agents/Changing").status_code == 204
    assert good(http.post("/agent/Changing", json=asked, headers=key))["metadata"]["turn_id"] == first
    # One that is described in the request is part of what is asked.
    described = {"message": "SAY once", "agent": {"name": "Changing", "instructions": "Three."}}
    path = "/v1/sessions/defined-anew/turns"
    problem(http.post(path, json=described, headers=key), 409, "IdempotencyConflict")


def test_an_agent_of_workers_that_are_away_is_waited_for(
    secured_gateway: GatewayProcess, secured_store: Server
) -> None:
    """While no worker runs, it is unknown whether it exists: the turn is accepted, as for the default agent."""
    key = made_key(secured_store)
    with secured_gateway.client(key) as http:
        turns = "/v1/sessions/away/turns"
        assert good(http.post(turns, json={"message": "hi", "agent": "clerk"}), 202)["status"] == "queued"


def test_definitions_that_cannot_be(http: httpx.Client) -> None:
    """Each invalid definition gets a problem response, and nothing is stored."""
    for body in (
        {"tools": "look_up"},
        {"tools": [""]},
        {"knowledge": "no such: name"},
        {"colour": "red"},
        {"instructions": 7},
        {"instructions": "\ud800"},
        {"model": "\ud800"},
        {"output_schema": {"type": "object", "title": "\ud800"}},
        {"instructions": "x" * 1_100_000},
    ):
        refused = http.put("/v1/agents/impossible", content=json.dumps(body), headers=JSON)
        assert refused.status_code in (413, 422), (body, refused.text)
    problem(http.put("/v1/agents/" + "n" * 300, json={}), 422)
    assert "impossible" not in listed(http)


def test_only_who_may_configure_sees_a_prompt() -> None:
    """A caller that may only talk to an agent sees that it exists."""
    from sessions.gateway.routes.agents import _defined

    class Asking:
        principal = Principal("acme", "ann", frozenset({Right.READ, Right.WRITE}))

    config = AgentDefinition(instructions="Secret.").as_agent("Desk", Agent().session).config
    shown = _defined(Asking, config)  # type: ignore[arg-type]
    assert shown == AgentResource(name="Desk", source="tenant")
    Asking.principal = replace(Asking.principal, rights=frozenset({Right.CONFIGURE}))
    assert _defined(Asking, config).definition == AgentDefinition(instructions="Secret.")  # type: ignore[arg-type]


def test_a_directory_in_python(fleet: Fleet) -> None:
    """The same definitions, of one tenant; another tenant has its own."""
    directory = AgentDirectory(tenant="acme", settings=fleet.settings)
    session = fleet.session()
    assert directory.put(session.Agent("Writer", instructions="You write.", model="double"))
    assert not directory.put(session.Agent("Writer", instructions="You write well."))
    config = directory.get("Writer")
    assert config is not None
    assert config.instructions == "You write well."
    assert list(directory.list()) == ["Writer"]
    assert AgentDirectory(tenant="other", settings=fleet.settings).get("Writer") is None
    assert Agent.of_config(config, session).chat("SAY fine") == "fine"
    assert directory.delete("Writer")
    assert not directory.delete("Writer")
    with pytest.raises(BadRequest):
        directory.put(session.Agent("n" * 300))


TEAM = {
    "agents": [{"name": "Researcher", "instructions": "You find facts."}, "assistant"],
    "tasks": [
        {"name": "facts", "description": "SAY leaves", "agent": "Researcher"},
        {"description": "SAY a paragraph", "agent": "assistant", "context": ["facts"]},
    ],
}


def test_a_team_runs_and_is_followed(http: httpx.Client) -> None:
    """202 with Location, its tasks among its events, how each ended in its result; the same key is the same run."""
    key = {"Idempotency-Key": "team-1", "X-User-ID": "ann"}
    run = http.post("/v1/teams", json=TEAM, headers=key)
    assert run.status_code == 202
    path = run.headers["location"]
    with http.stream("GET", f"{path}/events", headers={"X-User-ID": "ann"}) as stream:
        types = [event.type for event in sent_events(stream.iter_lines())]
    assert types.count("task_ended") == 2
    done = good(http.get(path, headers={**WAIT, "X-User-ID": "ann"}))
    assert [task["text"] for task in done["result"]["tasks"]] == ["leaves", "a paragraph"]
    assert good(http.post("/v1/teams", json=TEAM, headers={**key, **WAIT}))["id"] == done["id"]
    other = {**TEAM, "process": "parallel"}
    problem(http.post("/v1/teams", json=other, headers=key), 409, "IdempotencyConflict")


def test_a_run_is_its_users(http: httpx.Client) -> None:
    """Another user gets 403; so does a user who asks for a backend's run, which has no user; anything else is 404."""
    anns = http.post("/v1/teams", json=TEAM, headers={"X-User-ID": "ann", **WAIT}).headers["location"]
    backends = http.post("/v1/teams", json=TEAM, headers=WAIT).headers["location"]
    for path in (anns, backends):
        for method, url in (("GET", path), ("GET", f"{path}/events"), ("POST", f"{path}/cancel")):
            problem(http.request(method, url, headers={"X-User-ID": "bob"}), 403, "SessionOwnerError")
    assert good(http.get(anns))["status"] == "succeeded"
    turn = good(http.post("/v1/sessions/no-team/turns", json={"message": "hi"}), 202)["id"]
    problem(http.get(f"/v1/teams/{turn}"), 404, "TurnNotFound")
    for unknown in ("team-1", "team-1~knowledge", "~base:team-1~knowledge"):
        problem(http.get(f"/v1/teams/{unknown}~{'0' * 32}"), 404, "TurnNotFound")


def test_a_team_is_cancelled(http: httpx.Client) -> None:
    """Cancelling a run also cancels its tasks."""
    slow = {"agents": ["assistant"], "tasks": [{"description": "SLEEP 60"}]}
    path = http.post("/v1/teams", json=slow).headers["location"]
    assert good(http.post(f"{path}/cancel", headers=WAIT))["status"] == "cancelled"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"agents": ["nobody"]}, 404),
        ({"agents": []}, 422),
        ({"agents": ["assistant", "Assistant"]}, 422),
        ({"tasks": [{"description": "x", "agent": "who"}]}, 422),
        ({"tasks": [{"description": "x", "context": ["missing"]}]}, 422),
        ({"manager_model": "double"}, 422),
        ({"agents": [{"name": "R", "tools": ["no_such_tool"]}], "tasks": [{"description": "x"}]}, 422),
    ],
)
def test_teams_that_cannot_work(http: httpx.Client, change: dict[str, object], status: int) -> None:
    """Each invalid team is refused, and nothing is accepted."""
    problem(http.post("/v1/teams", json={**TEAM, **change}), status)
