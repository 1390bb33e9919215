"""A session can be behind a server. Code written for a local one runs when `agent_url=` is added."""

from __future__ import annotations

from sessions import Session
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess


def test_a_conversation_goes_on_from_another_machine(fleet: Fleet, gateway_process: GatewayProcess) -> None:
    """The gateway serves the fleet over HTTP; a process that only has its URL can do everything with the session."""
    local = fleet.session()
    local.Agent(instructions="You are helpful").chat("SAY hello")

    remote = Session(local.session_id, agent_url=f"{gateway_process.url}/agent")
    turn = remote.Agent("Assistant").submit("SAY hello from afar", stream=True)
    assert "".join(event.text for event in turn.events()) == "hello from afar"
    assert turn.result() == "hello from afar"
    remote.set_state("step", 2)

    assert [message.text for message in local.history()][1::2] == ["hello", "hello from afar"]
    assert local.get_state("step") == 2
