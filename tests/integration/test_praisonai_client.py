"""PraisonAI's own client and server, and the sample Flask server: which of them can talk to which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions import Session
from sessions.errors import RemoteAuthError, RemoteFailed, RemoteUnsupported
from tests.support.fleet import Fleet, running_fleet
from tests.support.gateway import GatewayProcess, running_gateway
from tests.support.openai_server import OpenAIServer
from tests.support.praisonai import documents_server, praisonai_python, praisonai_server, run_praisonai
from tests.support.servers import Server, running

pytestmark = pytest.mark.timeout(300)  # PraisonAI is installed first, if it is not yet


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A worker with the offline model, which quotes its input."""
    folder = tmp_path_factory.mktemp("offline")
    env = {"SESSIONFLEET_MODEL": "offline", "SESSIONFLEET_IMPORTS": ""}
    with running(Server(folder / "server")) as server, running_fleet(folder, server, env) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def gateway(offline: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway for it."""
    with running_gateway(offline.server, tmp_path_factory.mktemp("gateway"), SESSIONFLEET_GATEWAY_AUTH="off") as found:
        yield found


@pytest.fixture(scope="module")
def flask(offline: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The sample Flask server; the address of its agent."""
    with documents_server(offline.server.url, tmp_path_factory.mktemp("flask")) as url:
        yield url


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAIServer]:
    """A model for PraisonAI's server."""
    server = OpenAIServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def praison(model: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """PraisonAI's server, with a token; the address of its agent."""
    with praisonai_server(model.url, tmp_path_factory.mktemp("praison"), token="s3cret") as url:
        yield url


# --- PraisonAI's client -----------------------------------------------------------------------------------

CHAT = """
import sys
from praisonaiagents import Session
session = Session(agent_url=sys.argv[1], session_id=sys.argv[2])
session.chat("My name is Alice")
print(session.send_message("What is my name?"))
try:
    session.chat("")
except ConnectionError as error:
    print("refused:", error)
"""


def test_praisonais_client_talks_to_the_gateway(gateway: GatewayProcess, offline: Fleet, tmp_path: Path) -> None:
    """Two messages that remember; the session is `default_user`'s, as that client says; a bad one is an error."""
    said = run_praisonai(CHAT, tmp_path, f"{gateway.url}/agent", "praison-1")
    assert "Successfully connected" in said
    assert "Alice" in said
    assert "refused: HTTP error from remote agent: 422" in said
    context = offline.session("praison-1").get_context()
    assert (context["user_id"], context["message_count"]) == ("default_user", 4)


REFUSED = """
import sys
from praisonaiagents import Session
try:
    Session(agent_url=sys.argv[1], session_id="x").chat("hi")
except ConnectionError as error:
    print("refused:", error)
"""


def test_praisonais_client_is_told_that_an_agent_is_unknown(gateway: GatewayProcess, tmp_path: Path) -> None:
    """PraisonAI's own client reports an agent that the gateway does not know."""
    said = run_praisonai(REFUSED, tmp_path, f"{gateway.url}/agent/nobody")
    assert "refused: HTTP error from remote agent: 404" in said


def test_praisonais_client_and_the_documents_server_do_not_meet(flask: str, tmp_path: Path) -> None:
    """One sends `query`, the other reads `message`: the server gets an empty message, which our `Agent` refuses."""
    said = run_praisonai(REFUSED, tmp_path, flask)
    assert "Successfully connected" in said
    assert "refused: HTTP error from remote agent: 500" in said


# --- our client -------------------------------------------------------------------------------------------


def test_a_remote_session_and_the_documents_server(flask: str, offline: Fleet) -> None:
    """The sample server unchanged; the agent's sessions are the fleet's, so that a local one can continue them."""
    session = Session("flask-1", agent_url=flask)
    session.chat("My name is Alice")
    assert "Alice" in session.chat("What is my name?")
    assert "Alice" not in Session("flask-2", agent_url=flask).chat("What is my name?")
    assert offline.session("flask-1").get_context()["message_count"] == 4
    with pytest.raises(RemoteUnsupported):
        session.get_context()


def test_a_remote_session_and_praisonais_server(praison: str) -> None:
    """`query` in, `response` out; with PRAISONAI_LAUNCH_AUTH_TOKEN it wants a bearer token with each message."""
    session = Session(agent_url=praison, user_id="ann", headers={"Authorization": "Bearer s3cret"})
    assert session.chat("hello") == "you said hello"
    assert session.send_message("bye") == "you said bye"
    with pytest.raises(RemoteUnsupported):
        session.Agent("A").chat("x")
    with pytest.raises(RemoteAuthError, match="Unauthorized: pass credentials with headers="):
        Session(agent_url=praison).chat("hello")


def test_an_answer_of_praisonais_server_that_is_none(praison: str, model: OpenAIServer) -> None:
    """If its model fails, it sends 200 and `"response": null`: that is not an answer."""
    model.down = True
    session = Session(agent_url=praison, timeout=60, headers={"Authorization": "Bearer s3cret"})
    with pytest.raises(RemoteFailed, match="without an answer"):
        session.chat("hello")
    model.down = False


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """Before anything else, so that no test waits for a registry."""
    praisonai_python()
