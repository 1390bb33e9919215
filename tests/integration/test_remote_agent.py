"""Remote sessions on servers that are not gateways: both dialects, the probe, errors, and nothing sent twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessions import Session
from sessions.errors import (
    BackendError,
    BadRequest,
    InvalidMessage,
    RemoteAuthError,
    RemoteError,
    RemoteFailed,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnavailable,
    RemoteUnsupported,
    RemoteUntrusted,
)
from tests.support.remote_servers import AgentServer, Reply, agent_server
from tests.support.servers import free_port


@pytest.fixture
def agent() -> Iterator[AgentServer]:
    with agent_server() as server:
        server.replies["POST /agent"] = Reply({"content": "hello", "session_id": "s1", "metadata": {}})
        yield server


# --- both dialects ----------------------------------------------------------------------------------------


def test_a_message_goes_out_in_both_dialects(agent: AgentServer) -> None:
    """The sample Flask server reads `message`, PraisonAI's `query`; a client cannot tell which one it talks to."""
    session = Session("s1", "ann", agent_url=agent.url)
    assert session.chat("hi", extra=1) == "hello"
    assert agent.sent_bodies() == [{"message": "hi", "query": "hi", "session_id": "s1", "user_id": "ann", "extra": 1}]
    assert Session(agent_url=agent.url).send_message("hi") == "hello"
    assert "user_id" not in agent.sent_bodies()[1]
    assert agent.sent_bodies()[1]["session_id"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"response": "a", "content": "b"}, "a"),
        ({"content": "b"}, "b"),
        ({"response": {"x": 1}}, '{"x": 1}'),
        ({"other": 1}, '{"other": 1}'),
        ("plain text", "plain text"),
    ],
)
def test_an_answer_is_read_in_both_dialects(agent: AgentServer, body: object, text: str) -> None:
    """The answer is the field `response`, else `content`, else the whole text."""
    agent.replies["POST /agent"] = Reply(body)
    assert Session(agent_url=agent.url).chat("hi") == text


async def test_the_async_twins_do_the_same(agent: AgentServer) -> None:
    """The async methods work on any loop."""
    session = Session(agent_url=agent.url)
    assert await session.achat("hi") == "hello"
    assert await session.asend_message("hi") == "hello"


def test_middleware_sees_remote_answers(agent: AgentServer) -> None:
    """Middleware gets a remote answer as it gets a local one."""
    session = Session(agent_url=agent.url, middleware=[lambda message, response: f"{message}: {response}"])
    assert session.chat("hi") == "hi: hello"


# --- the probe --------------------------------------------------------------------------------------------


def test_the_probe_asks_health_then_the_agent_itself(agent: AgentServer) -> None:
    """Once for an address, not once for a message; opening a session asks nothing."""
    session = Session(agent_url=agent.url)
    assert agent.asked == []
    session.chat("hi")
    session.chat("hi")
    assert [(a.method, a.path) for a in agent.asked] == [
        ("GET", "/agent/health"),
        ("HEAD", "/agent"),
        ("POST", "/agent"),
        ("POST", "/agent"),
    ]


def test_a_health_page_is_enough(agent: AgentServer) -> None:
    """PraisonAI's response has no `server`, so this is not a gateway."""
    agent.replies["GET /agent/health"] = Reply({"status": "ok", "endpoints": ["/agent"]})
    Session(agent_url=agent.url).chat("hi")
    assert [a.method for a in agent.asked] == ["GET", "POST"]


def test_a_health_page_that_fails_is_asked_again(agent: AgentServer) -> None:
    """A gateway that is starting must not be taken for a plain server from then on."""
    session = Session("s", agent_url=agent.url)
    agent.replies["GET /agent/health"] = Reply("starting", 500)
    assert session.chat("hi") == "hello"
    agent.replies["GET /agent/health"] = Reply({"server": "sessionfleet"})
    agent.replies["GET /v1/sessions/s/state"] = Reply({"state": {"k": 1}})
    assert session.get_state() == {"k": 1}


def test_an_address_without_an_agent_is_told_apart(agent: AgentServer) -> None:
    """Both requests get 404, which the error reports."""
    with pytest.raises(RemoteRefused, match="answered 404") as caught:
        Session(agent_url=agent.url + "s").chat("hi")
    assert caught.value.status == 404
    assert agent.sent_bodies() == []


def test_headers_go_along_with_every_request(agent: AgentServer) -> None:
    """The probe's, too; and the part before the '@' is a credential, shown nowhere."""
    session = Session(agent_url=agent.url, headers={"Authorization": "Bearer t0ken", "X-API-Key": "k"})
    session.chat("hi")
    assert {a.headers["authorization"] for a in agent.asked} == {"Bearer t0ken"}
    assert {a.headers["x-api-key"] for a in agent.asked} == {"k"}
    agent.asked.clear()
    secret = Session(agent_url=agent.url.replace("//", "//any:s3cret@"))
    secret.chat("hi")
    assert {a.headers["authorization"] for a in agent.asked} == {"Basic YW55OnMzY3JldA=="}
    assert "s3cret" not in repr(secret) + secret.agent_url


def test_http_is_added_where_no_scheme_is_given(agent: AgentServer) -> None:
    """`192.168.1.10:8000/agent`, as in the documents, is accepted."""
    session = Session(agent_url=f"127.0.0.1:{agent.port}/agent")
    assert session.agent_url == agent.url
    assert session.chat("hi") == "hello"


# --- what goes wrong --------------------------------------------------------------------------------------


def test_every_error_is_a_connection_error() -> None:
    """`except ConnectionError` catches all of them."""
    kinds = [RemoteUnavailable, RemoteUntrusted, RemoteTimeout, RemoteAuthError, RemoteRefused, RemoteFailed]
    for kind in (*kinds, RemoteUnsupported):
        assert issubclass(kind, RemoteError)
        assert issubclass(kind, BackendError)
        assert issubclass(kind, ConnectionError)
    assert issubclass(RemoteTimeout, TimeoutError)
    assert issubclass(RemoteAuthError, PermissionError)


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (Reply({"error": "no such thing"}, 500), RemoteFailed, "answered 500 Internal Server Error: no such thing"),
        (Reply("<html>x</html>", 502, {"Content-Type": "text/html"}), RemoteFailed, "answered 502 Bad Gateway$"),
        (Reply("busy", 503, {"Retry-After": "0"}), RemoteFailed, "answered 503"),
        (Reply({"detail": "Unauthorized"}, 401), RemoteAuthError, "Unauthorized: pass credentials with headers="),
        (Reply("", 403), RemoteAuthError, "answered 403"),
        (Reply("no", 400), RemoteRefused, "answered 400 Bad Request: no"),
        (Reply("", 302, {"Location": "http://evil.example/"}), RemoteRefused, "redirects to 'http://evil.example/'"),
        (Reply(breaks=True), RemoteUnavailable, "the connection to .* broke"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_sent_again(
    agent: AgentServer, reply: Reply, kind: type[RemoteError], says: str
) -> None:
    """A message that may have arrived is not repeated, because these servers know no idempotency keys."""
    agent.replies["POST /agent"] = reply
    with pytest.raises(kind, match=says) as caught:
        Session(agent_url=agent.url).chat("hi")
    assert type(caught.value) is kind
    assert caught.value.status == (None if reply.breaks else reply.status)
    assert len(agent.sent_bodies()) == 1
    assert agent.asked[-1].headers["idempotency-key"]


def test_a_slow_server_ends_in_a_timeout(agent: AgentServer) -> None:
    """`timeout=` of the call instead of the session's; not sent again either."""
    session = Session(agent_url=agent.url)
    session.chat("hi")
    release = threading.Event()
    agent.replies["POST /agent"] = Reply(before=lambda: release.wait(20))
    with pytest.raises(RemoteTimeout, match=r"did not respond within \d.* s; it is unknown whether") as caught:
        session.chat("slow", timeout=1)
    release.set()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.turn_id is None
    assert [told["message"] for told in agent.sent_bodies()] == ["hi", "slow"]


def test_what_never_arrived_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server begins to listen when the first try was refused."""
    from sessions.remote import exchange

    refused = threading.Event()

    def pause(_state: object) -> float:
        refused.set()
        return 0.05

    monkeypatch.setattr(exchange, "_PAUSES", pause)
    port = free_port()
    session = Session(agent_url=f"127.0.0.1:{port}/agent", timeout=20)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(session.chat, "hi")
        assert refused.wait(20)
        with agent_server(port=port) as agent:
            agent.replies["POST /agent"] = Reply({"content": "late"})
            assert answer.result(20) == "late"
            assert len(agent.sent_bodies()) == 1


def test_nobody_there_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is reported long before the timeout."""
    from sessions.remote import server

    monkeypatch.setattr(server, "_FIRST_SECONDS", 0.5)
    with pytest.raises(
        RemoteUnavailable,
        match=r"cannot be reached \(Connection refused\): check agent_url, and that the server is running",
    ):
        Session(agent_url=f"127.0.0.1:{free_port()}/agent", timeout=60).chat("hi")


def test_a_host_that_does_not_exist_is_told() -> None:
    """The name is in `.invalid`, which never resolves (RFC 2606)."""
    with pytest.raises(RemoteUnavailable, match=r"http://no-such-host\.invalid/agent cannot be reached"):
        Session(agent_url="no-such-host.invalid/agent", timeout=1).chat("hi")


def test_everything_but_chat_says_that_this_is_no_gateway(agent: AgentServer) -> None:
    """Each kind of method raises before anything is sent."""
    session = Session(agent_url=agent.url)
    for call in (
        lambda: session.get_state("x"),
        lambda: session.set_state("x", 1),
        lambda: session.add_memory("x"),
        lambda: session.search_knowledge("x"),
        lambda: session.add_knowledge("some text"),
        session.history,
        session.get_context,
        session.save_state,
        session.restore_state,
        session.fork,
        session.delete,
        lambda: session.Agent("A").chat("x"),
        lambda: session.Agent("A").submit("x"),
        lambda: list(session.Agent("A").stream("x")),
        lambda: session.turn(f"{session.session_id}~{'0' * 32}"),
    ):
        with pytest.raises(RemoteUnsupported, match="is not a Sessionfleet gateway: it only accepts messages"):
            call()
    assert agent.sent_bodies() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"agent_url": ""}, "use the URL of an agent"),
        ({"agent_url": "ftp://host/agent"}, "use an http or https URL"),
        ({"agent_url": "http:///agent"}, "use an http or https URL"),
        ({"agent_url": "host:port/agent"}, "is not a URL"),
        ({"agent_url": "host/agent", "timeout": 0}, "timeout 0"),
        ({"agent_url": "host/agent", "headers": ["x"]}, "headers must be a dict"),
        ({"agent_url": "host/agent", "headers": {"a b": "x"}}, "header name 'a b'"),
        ({"agent_url": "host/agent", "headers": {"a": "x\nevil: 1"}}, "the value of header 'a' must be"),
        ({"agent_url": "host/agent", "tenant": "t"}, "tenant= is for local sessions"),
        ({"timeout": 3}, "timeout= and headers= are for remote sessions"),
    ],
)
def test_bad_arguments_are_refused_at_once(options: dict[str, object], says: str) -> None:
    """Before anything is sent, and without showing what may be a key."""
    with pytest.raises(BadRequest, match=says) as caught:
        Session(**options)
    assert "evil" not in str(caught.value)


def test_a_page_that_is_missing_is_no_answer(agent: AgentServer) -> None:
    """A proxy that passes on /agent and not /v1: an error, not a session without state, memory and past."""
    agent.replies["GET /agent/health"] = Reply({"status": "ok", "server": "sessionfleet"})
    session = Session(agent_url=agent.url)
    for call in (
        lambda: session.get_state("step"),
        session.get_context,
        lambda: session.get_memory("m"),
        session.is_expired,
    ):
        with pytest.raises(RemoteRefused, match="404"):
            call()


def test_an_empty_message_is_refused(agent: AgentServer) -> None:
    """Local sessions refuse it, too."""
    with pytest.raises(InvalidMessage):
        Session(agent_url=agent.url).chat(" ")
    assert agent.asked == []
