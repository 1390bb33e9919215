"""Connections of remote sessions: certificates, what the environment says, forks, and how often they are made."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions import Session
from sessions.errors import (
    RemoteUnavailable,
    RemoteUntrusted,
)
from tests.support.remote_servers import AgentServer, Reply, agent_server


@pytest.fixture
def agent() -> Iterator[AgentServer]:
    with agent_server() as server:
        server.replies["POST /agent"] = Reply({"content": "hello", "session_id": "s1", "metadata": {}})
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, with its key."""
    from tests.support.certificates import self_signed

    return self_signed(tmp_path_factory.mktemp("tls"))


ASK = "import sys; from sessions import Session; print(Session(agent_url=sys.argv[1]).chat('hi'))"


def test_certificates_are_verified(certificate: Path) -> None:
    """A self-signed one is refused, and nothing is sent; trusted by SSL_CERT_FILE, it is good."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with agent_server(tls) as agent:
        agent.replies["POST /agent"] = Reply({"content": "hello"})
        with pytest.raises(RemoteUntrusted, match=r"the certificate of https://.* cannot be verified: self.signed"):
            Session(agent_url=agent.url).chat("hi")
        assert agent.asked == []
        trusting = {**os.environ, "SSL_CERT_FILE": str(certificate)}
        done = subprocess.run(
            [sys.executable, "-c", ASK, agent.url], env=trusting, capture_output=True, text=True, check=True
        )
        assert done.stdout == "hello\n"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SSL_CERT_FILE", "/no/such/file.pem", "RemoteUntrusted: the trusted certificates cannot be read"),
        ("HTTPS_PROXY", "nonsense://x", "RemoteUnavailable: the environment's proxy cannot be used"),
    ],
)
def test_an_environment_that_cannot_be_used_is_told(name: str, value: str, says: str) -> None:
    """The error is raised before anything is sent."""
    env = {**os.environ, name: value}
    done = subprocess.run(
        [sys.executable, "-c", ASK, "https://127.0.0.1:1/agent"], env=env, capture_output=True, text=True, check=False
    )
    assert says in done.stderr.splitlines()[-1]


def test_http_where_https_was_meant_is_told(agent: AgentServer) -> None:
    """The error is raised at once: another try would find no TLS either."""
    with pytest.raises(RemoteUnavailable, match=r"the TLS handshake with https://.* failed .*: does it speak http\?"):
        Session(agent_url=agent.url.replace("http:", "https:")).chat("hi")


# --- processes --------------------------------------------------------------------------------------------

FORK = """
import os, sys
from sessions import Session
session = Session("s1", agent_url=sys.argv[1])
assert session.chat("parent") == "hello"
child = os.fork()
if not child:
    print(session.chat("child"), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(session.chat("parent again"))
"""


def test_a_forked_child_has_connections_of_its_own(agent: AgentServer) -> None:
    """As gunicorn forks; the parent's connections continue, and nothing is left open with a warning at the end."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORK, agent.url],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "hello\nhello\n"
    assert done.stderr == ""


AT_THE_END = """
import atexit, sys
from sessions import Session
session = Session(agent_url=sys.argv[1])
def late():
    try:
        session.chat("bye")
    except ConnectionError as error:
        print(type(error).__name__, error)
atexit.register(late)  # before the first use: it runs after the connections were closed
session.chat("hi")
"""


def test_who_asks_when_the_process_has_ended_is_told_so(agent: AgentServer) -> None:
    """The error is a ConnectionError, not one of the interpreter's own."""
    command = [sys.executable, "-W", "error", "-c", AT_THE_END, agent.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == (
        "RemoteUnavailable this process is exiting, so it cannot connect to a remote server\n",
        "",
    )


def test_connections_are_used_again(agent: AgentServer) -> None:
    """Consecutive requests use one connection."""
    import httpcore

    made: list[object] = []
    connect = httpcore.AsyncConnectionPool.create_connection

    def counted(pool: httpcore.AsyncConnectionPool, origin: object) -> object:
        made.append(origin)
        return connect(pool, origin)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore.AsyncConnectionPool, "create_connection", counted)
        session = Session(agent_url=agent.url)
        assert [session.chat("hi") for _ in range(5)] == ["hello"] * 5
    assert len(made) == 1
