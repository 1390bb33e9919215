"""Remote sessions without a server: addresses, what answers mean, how long to pause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from sessions import AgentTeam, Session, Task, errors
from sessions.gateway.routes.turns import NewTurn
from sessions.remote.address import Address
from sessions.remote.problems import error_of, retry_after
from sessions.remote.wire import turn_body


@pytest.mark.parametrize(
    ("given", "url", "api", "agent"),
    [
        ("host:8000/agent", "http://host:8000/agent", "http://host:8000/v1/x", "assistant"),
        ("https://h/agent/", "https://h/agent/", "https://h/v1/x", "assistant"),
        ("https://h/pre/agent/clerk", "https://h/pre/agent/clerk", "https://h/pre/v1/x", "clerk"),
        ("h/agent/travel%20desk?a=1", "http://h/agent/travel%20desk", "http://h/v1/x", "travel desk"),
        ("h/agent/a%2Fb%2541", "http://h/agent/a%2Fb%2541", "http://h/v1/x", "a/b%41"),
        ("h/p%2Fq/agent", "http://h/p%2Fq/agent", "http://h/p%2Fq/v1/x", "assistant"),
        ("h", "http://h", "http://h/v1/x", "assistant"),
        ("http://[::1]:8000/agent", "http://[::1]:8000/agent", "http://[::1]:8000/v1/x", "assistant"),
    ],
)
def test_an_address_says_where_the_api_is(given: str, url: str, api: str, agent: str) -> None:
    """The path of the API begins with whatever precedes `/agent`."""
    address = Address.of(given)
    assert (str(address), str(address.api("/x")), address.agent) == (url, api, agent)
    assert str(address.health.copy_with(query=None)) == f"{url.rstrip('/')}/health"
    assert address.health.query == address.url.query


def test_the_sample_programs_open_remote_sessions() -> None:
    """With exactly the arguments of the sample programs; opening it sends nothing."""
    samples = Path(__file__).parents[1] / "samples"
    scope = {"Session": Session}
    exec((samples / "remote_connect.txt").read_text(), scope)
    assert (scope["session"].agent_url, scope["session"].timeout) == ("http://192.168.1.10:8000/agent", 30)
    exec((samples / "remote_options.txt").read_text(), scope)
    assert (scope["session"].agent_url, scope["session"].timeout) == ("https://api.example.com/agent", 60)
    sent = scope["session"].client.server.request_headers()
    assert (sent["authorization"], sent["x-api-key"]) == ("Bearer token", "api_key")


def test_what_stands_before_the_at_is_shown_nowhere() -> None:
    """It is also hidden in the error of an invalid address."""
    address = Address.of("http://any:s3cret@host/agent")
    assert address.credentials is not None
    assert "s3cret" not in f"{address} {address.url} {address.base} {address.health} {address.origin}"
    with pytest.raises(errors.BadRequest) as caught:
        Address.of("http://any:s3cret@host:port/agent")
    assert "s3cret" not in str(caught.value)


def test_what_would_run_elsewhere_is_refused() -> None:
    """A remote agent in a team or as a tool would be one of this process's own fleet."""
    agent = Session("s", agent_url="http://host/agent").Agent("Far", instructions="x")
    assert agent.session.is_remote
    with pytest.raises(errors.BadRequest, match="in a remote session, and a team runs on one fleet"):
        AgentTeam(agents=[agent], tasks=[Task(description="x")])
    with pytest.raises(errors.BadRequest, match="agents as tools are not supported there"):
        Session("s").Agent("Near", tools=[agent])


def test_a_subclass_of_session_may_be_remote() -> None:
    """Its session has another back end, and its own class; so has a sibling."""

    class Own(Session):
        pass

    own = Own("s", agent_url="http://host/agent")
    assert (own.is_remote, own.agent_url, own.timeout) == (True, "http://host/agent", 30.0)
    assert repr(own.sibling("t")) == "Own('t', agent_url='http://host/agent')"


@pytest.mark.parametrize(
    "said",
    [
        {"agent": {}},
        {
            "agent": {
                "instructions": "x",
                "tools": ["t"],
                "model": "m",
                "hooks": ["h"],
                "memory": True,
                "knowledge": "b",
            }
        },
        {"agent": {"output_type": list[int], "memory": False, "knowledge": False}},
        {"agent": {"knowledge": ["a", "b"]}},
        {"agent": {"registered": True}},
        {"session": {"queue": "turns.vip", "ttl": 60, "policy": "steer", "waiting_blocks": False}},
        {"session": {"memory": True, "knowledge": ["a", "b"]}},
        {"session": {"searchable": False, "compact": "auto"}},
        {
            "options": {
                "webhook": "https://shop.example.com/hooks",
                "timeout": 3,
                "approval_timeout": 4,
                "policy": "reject",
                "waiting_blocks": False,
            }
        },
    ],
)
def test_what_is_sent_is_what_the_gateway_takes(said: dict[str, dict[str, object]]) -> None:
    """Each option of session, agent and call has its place in the body; none that it does not know."""
    session = Session("s", agent_url="http://host/agent", **said.get("session", {}))
    agent = session.Agent("A", **said.get("agent", {}))
    submission = agent.submission(session, "hello", stream=True, **said.get("options", {}))
    body = turn_body(submission, "s")
    taken = NewTurn.model_validate(body)
    assert (taken.message, taken.stream) == ("hello", True)
    assert set(said.get("options", {})) <= set(body)
    for name in ("policy", "waiting_blocks", "queue", "memory", "knowledge", "searchable", "compact"):
        if name in said.get("session", {}):
            assert body[name] == said["session"][name]
    spec = {"output_schema" if name == "output_type" else name for name in said.get("agent", {})} - {"registered"}
    assert spec <= set(body["agent"]) if spec else body["agent"] in ("A", {"name": "A"})


@pytest.mark.parametrize(
    "said",
    [
        {"memory": {"extract": True}},
        {"knowledge": {"vector_store": {"provider": "qdrant", "config": {"collection_name": "own"}}}},
    ],
)
def test_what_does_not_travel_is_refused_here(said: dict[str, object]) -> None:
    """The error says what to use instead, before anything is sent."""
    agent = Session("s", agent_url="http://127.0.0.1:9/agent").Agent("A", **said)
    with pytest.raises(errors.BadRequest, match=r"gateway"):
        agent.submit("x")


def problem(kind: str, status: int, **more: object) -> httpx.Response:
    """An answer of a gateway."""
    body = {"type": kind, "title": "T", "status": status, "detail": "said so", "request_id": "r1", **more}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


@pytest.mark.parametrize("kind", ["SessionBusy", "StateConflict", "TurnNotFound", "StoreUnavailable", "ModelError"])
def test_a_problem_that_names_a_class_is_that_class(kind: str) -> None:
    """The error has the gateway's message, status and problem."""
    error = error_of(problem(f"urn:sessionfleet:error:{kind}", 409), "http://h/agent")
    assert type(error) is getattr(errors, kind)
    assert str(error) == "said so"
    assert (error.detail["status"], error.detail["problem"]["request_id"]) == (409, "r1")


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("urn:sessionfleet:error:Unauthenticated", 401, errors.RemoteAuthError),
        ("urn:sessionfleet:error:Forbidden", 403, errors.RemoteAuthError),
        ("urn:sessionfleet:error:TooManyRequests", 429, errors.RemoteRefused),
        ("urn:sessionfleet:error:NoSuchClass", 404, errors.RemoteRefused),
        ("urn:sessionfleet:error:turn_error", 500, errors.RemoteFailed),
        ("urn:sessionfleet:error:Any", 500, errors.RemoteFailed),
        ("about:blank", 500, errors.RemoteFailed),
    ],
)
def test_a_problem_of_the_gateway_itself_is_a_remote_error(kind: str, status: int, expected: type[Exception]) -> None:
    """As is one of a class that this version does not know; with the request's id, to ask for help with."""
    error = error_of(problem(kind, status), "http://h/agent")
    assert type(error) is expected
    assert "said so (request r1)" in str(error)


def test_pauses_are_read_in_seconds_and_as_dates() -> None:
    """An invalid value counts as no pause."""

    def pause(value: str) -> float:
        return retry_after(httpx.Response(503, headers={"Retry-After": value}))

    assert pause("7") == 7
    assert 50 < pause(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60
    assert (pause("soon"), pause("-3"), retry_after(httpx.Response(503))) == (0, 0, 0)
