"""Options of a single message: its model or a chain of models, their settings, and metadata."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable

import pytest

from sessions import Session, errors
from sessions.protocol.event import EventType
from tests.integration.test_sealed_turns import stored
from tests.integration.test_sealing import NEW
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess

CHAIN = ["out_of_order", "double"]
NOTES = {"request_id": "r-81", "tags": ["a", "b"]}


@pytest.fixture(params=["local", "remote"])
def session(request: pytest.FixtureRequest, fleet: Fleet, gateway_process: GatewayProcess) -> Session:
    """A session of the fleet, from within and through a gateway."""
    session_id = f"options-{uuid.uuid4().hex}"
    if request.param == "local":
        return fleet.session(session_id)
    return Session(session_id, agent_url=f"{gateway_process.url}/agent", timeout=30)


# --- the model -------------------------------------------------------------------------------------------


def test_a_message_can_have_another_model(session: Session) -> None:
    """Only this message: the agent, as the session knows it, keeps its own."""
    agent = session.Agent("A", instructions="x", model="double")
    assert agent.chat("hi", model="offline") != "ok"
    assert agent.chat("hi") == "ok"
    assert session.Agent("A").chat("hi") == "ok"


def test_a_chain_asks_the_next_model_when_one_fails(session: Session, fleet: Fleet) -> None:
    """The record says which one answered."""
    prompt = f"SAY {uuid.uuid4().hex}"
    turn = session.Agent("A").submit(prompt, model=CHAIN)
    assert turn.result(timeout=30) == prompt.removeprefix("SAY ")
    assert turn.record().model == "double"
    assert [line["prompt"] for line in fleet.ledger("out_of_order")].count(prompt) == 1


def test_a_chain_works_for_a_stream(session: Session) -> None:
    """A model that fails before its first token has sent nothing, so the next one begins the text."""
    events = list(session.Agent("A").stream("SAY one two", model=CHAIN))
    assert "".join(event.text for event in events) == "one two"
    assert EventType.RETRYING not in [event.type for event in events]


def test_an_agent_can_have_a_chain(session: Session) -> None:
    """`Agent(model=[...])`: for all of its messages."""
    assert session.Agent("A", model=CHAIN).chat("SAY yes") == "yes"


def test_a_registered_agent_can_get_another_model(fleet: Fleet) -> None:
    """An agent of the workers keeps its instructions and tools."""
    agent = fleet.session(uuid.uuid4().hex).Agent("clerk")
    assert agent.chat('CALL stamp({"text": "x"})', model=CHAIN) == "ok: stamped x"


def test_an_unknown_model_is_refused_at_once(session: Session) -> None:
    """Before anything is accepted; the error names the model of the chain that no worker knows."""
    with pytest.raises(errors.UnknownModel, match="'nomodel'"):
        session.Agent("A").chat("hi", model=["double", "nomodel"])
    with pytest.raises(errors.UnknownModel, match="'nomodel'"):
        session.Agent("A").chat("hi", model="nomodel")
    assert session.history().messages == []


def test_a_replay_does_not_ask_the_chain_again(new_fleet: Callable[..., Fleet]) -> None:
    """kill -9 after the first of two requests: its answer is in the journal, whichever model gave it."""
    fleet = new_fleet()
    first = fleet.start("first")
    fleet.start("second")
    fleet.ready()
    prompt = f'{uuid.uuid4().hex}\nCALL look_up({{"query": "x"}})\nHANG 1 60'
    turn = fleet.session("chain").Agent("A", tools=["look_up"]).submit(prompt, model=CHAIN, metadata=NOTES)
    fleet.noted("hung", 1)
    holder = next(worker for worker in (first, fleet.workers[1]) if turn.record().worker.startswith(worker.name))
    holder.kill()
    assert turn.result(timeout=60) == "ok: x found"
    assert (turn.record().crashes, turn.record().metadata) == (1, NOTES)
    steps = Counter(line["step"] for line in fleet.ledger("model") if line["prompt"] == prompt)
    assert steps == {0: 1, 1: 1}
    asked = [line["prompt"] for line in fleet.ledger("out_of_order")].count(prompt)
    assert asked == 3  # once for the first request, and twice for the second, which the crash interrupted


# --- its settings ----------------------------------------------------------------------------------------


def test_settings_reach_the_model(session: Session) -> None:
    """Of this message only."""
    agent = session.Agent("A")
    settings = {"temperature": 0.2, "max_tokens": 50, "openai_user": "u-1"}
    assert json.loads(agent.chat("WHICH SETTINGS", model_settings=settings)) == settings
    assert json.loads(agent.chat("WHICH SETTINGS")) == {}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"temperature": "hot"}, "temperature is 'hot'; use a value of type int or float"),
        ({"max_tokens": True}, "max_tokens is True; use a value of type int"),
        ({"temperature": float("nan")}, "dict of JSON values"),
        ({"x": "y" * 20_000}, "has 20009 bytes of JSON, the limit is 16384"),
        ("hot", "dict of JSON values"),
    ],
)
def test_wrong_settings_are_refused(session: Session, settings: object, problem: str) -> None:
    """By name and value, before anything is accepted."""
    with pytest.raises(errors.BadRequest, match=problem):
        session.Agent("A").chat("hi", model_settings=settings)  # type: ignore[arg-type]


# --- limits ----------------------------------------------------------------------------------------------


def test_a_turn_that_needs_more_calls_than_it_may_make_fails(session: Session) -> None:
    """With the limit in the error; what it finished is in the history, and the session goes on."""
    agent = session.Agent("A", tools=["charge"], max_tool_calls=5)
    with pytest.raises(errors.TurnLimitExceeded, match="may make 1 model calls") as refused:
        agent.chat('CALL charge({"amount": 41})', max_model_calls=1)
    assert (refused.value.limit, refused.value.allowed) == ("model_calls", 1)
    assert any(message.text == "charged 41" for message in session.history())
    assert agent.chat("SAY on we go", max_model_calls=1) == "on we go"
    with pytest.raises(errors.TurnLimitExceeded, match="may make 0 tool calls"):
        agent.chat('CALL charge({"amount": 42})', max_tool_calls=0)
    with pytest.raises(errors.BadRequest, match="max_model_calls=0: use a whole number from 1"):
        agent.chat("hi", max_model_calls=0)


# --- metadata --------------------------------------------------------------------------------------------


def test_metadata_is_in_the_record_and_for_tools(session: Session) -> None:
    """The model never sees it."""
    turn = session.Agent("A", tools=["who_asks"]).submit("CALL who_asks()", metadata=NOTES)
    assert "r-81" in str(turn.result(timeout=30))
    assert turn.record().metadata == NOTES
    assert session.turn(turn.id).record().metadata == NOTES


def test_metadata_is_for_hooks(fleet: Fleet) -> None:
    """A policy may decide by it."""
    agent = fleet.session(uuid.uuid4().hex).Agent("A", hooks=["policy"])
    with pytest.raises(errors.TurnRefused, match="blocked for tests"):
        agent.chat("hi", metadata={"blocked": "tests"})


def test_metadata_is_part_of_the_request(session: Session) -> None:
    """Repeating an idempotency key with other metadata is another request."""
    agent, key = session.Agent("A"), uuid.uuid4().hex
    first = agent.submit("hi", idempotency_key=key, metadata=NOTES)
    assert agent.submit("hi", idempotency_key=key, metadata=dict(NOTES)).id == first.id
    with pytest.raises(errors.IdempotencyConflict):
        agent.submit("hi", idempotency_key=key, metadata={"request_id": "r-82"})


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [([], "dict of JSON values"), ({"x": object()}, "dict of JSON values"), ({"x": "y" * 5000}, "the limit is 4096")],
)
def test_wrong_metadata_is_refused(session: Session, metadata: object, problem: str) -> None:
    """Too much, or not JSON."""
    with pytest.raises(errors.BadRequest, match=problem):
        session.Agent("A").chat("hi", metadata=metadata)  # type: ignore[arg-type]


def test_metadata_is_encrypted(new_fleet: Callable[..., Fleet]) -> None:
    """Like the message itself; and readable with the key."""
    fleet = new_fleet(SESSIONFLEET_ENCRYPTION_KEYS=NEW)
    fleet.start("only")
    fleet.ready()
    secret = uuid.uuid4().hex
    turn = fleet.session("sealed").Agent("A").submit("hi", metadata={"secret": secret})
    assert turn.result(timeout=30) == "ok"
    assert turn.record().metadata == {"secret": secret}
    assert not any(secret.encode() in value for _, value in stored(fleet.server))


# --- additions -------------------------------------------------------------------------------------------

WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


def test_a_message_can_bring_tools_of_its_sender(session: Session) -> None:
    """The turn waits for the call's result as for any outside result; the next message does without the tool."""
    turn = session.Agent("A", model="double").submit('CALL weather({"city": "Rome"})', outside_tools=[WEATHER])
    waiting = next(event for event in turn.events() if event.type is EventType.WAITING)
    (call,) = turn.approvals()
    assert (call.tool, call.args, call.kind) == ("weather", {"city": "Rome"}, "result")
    assert waiting.data["calls"][0]["call_id"] == call.call_id
    turn.provide(call.call_id, "rain")
    assert turn.result(timeout=30) == "ok: rain"


def test_a_message_can_say_the_form_of_its_answer(session: Session) -> None:
    """For this message only; the schema is checked as an output type's is."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    agent = session.Agent("A", model="double")
    assert agent.chat('PLAN {"city": "Rome"}', output_schema=schema) == {"city": "Rome"}
    assert agent.chat("hi") == "ok"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"instructions": 3}, "instructions must be a string"),
        ({"outside_tools": [{"name": "two words"}]}, "no name for a tool"),
        ({"outside_tools": [WEATHER, WEATHER]}, "occurs twice"),
        ({"outside_tools": [{"name": "a", "parameters": {"type": "string"}}]}, "schema of an object"),
        ({"outside_tools": [WEATHER], "tool_choice": "other"}, "tool_choice='other'"),
        ({"tool_choice": "required"}, "needs outside_tools"),
        ({"output_schema": {"type": "array"}}, "schema of an object"),
        ({"instructions": "x" * 70_000}, "the limit is 65,536"),
    ],
)
def test_additions_that_cannot_be_used_are_refused(options: dict[str, object], says: str, fleet: Fleet) -> None:
    """Before anything is accepted."""
    with pytest.raises(errors.BadRequest, match=says):
        fleet.session("refused").Agent("A").submit("hi", **options)
