"""Responses, with OpenAI's own client: each is one leg of a turn of a session on real workers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from sessions.gateway.openai.ids import ResponseRef
from tests.support.fleet import Fleet
from tests.support.gateway import running_gateway
from tests.support.servers import Server
from tests.support.waiting import wait_until

EXCLUSIVE = "mutually_exclusive_parameters"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


def ask(client: openai.OpenAI, said: Any, **options: Any) -> Any:
    return client.responses.create(model=options.pop("model", "assistant"), input=said, **options)


def given(response: Response, result: str = "rain") -> list[Any]:
    calls = [item for item in response.output if item.type == "function_call"]
    return [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"{result} in {call.arguments}"}
        for call in calls
    ]


def ended(client: openai.OpenAI, response: Response, timeout: float = 30) -> Response:
    def final() -> Response | None:
        found = client.responses.retrieve(response.id)
        return found if found.status not in ("queued", "in_progress") else None

    return wait_until(final, description="the response ends", timeout=timeout)


# --- one response ----------------------------------------------------------------------------------------


def test_a_response_is_a_turn(client: openai.OpenAI, fleet: Fleet) -> None:
    """Any client finds it by its id, as long as the turn's record exists."""
    response = ask(client, "SAY hello there", metadata={"purpose": "test"}, temperature=0.4)
    assert (response.output_text, response.status) == ("hello there", "completed")
    assert response.usage.total_tokens > 0
    assert response.usage.input_tokens_details.cached_tokens == 0
    assert (response.metadata, response.temperature) == ({"purpose": "test"}, 0.4)
    assert client.responses.retrieve(response.id) == response
    (item,) = client.responses.input_items.list(response.id)
    assert item.content[0].text == "SAY hello there"


def test_a_stream_ends_with_the_response(client: openai.OpenAI) -> None:
    """Its numbers have no gap, and what its deltas say is what it has at its end."""
    with client.responses.stream(model="assistant", input="SAY one two three") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two three"
    assert (events[-1].type, final.output_text) == ("response.completed", "one two three")
    assert client.responses.retrieve(final.id).output_text == final.output_text


def test_the_agents_own_tools_are_shown(client: openai.OpenAI) -> None:
    """As calls that the server made: the client has nothing to do with them."""
    response = ask(client, 'CALL stamp({"text": "letter"})', model="clerk")
    call, message = response.output
    assert (call.type, call.name, json.loads(call.arguments), call.output) == (
        "mcp_call", "stamp", {"text": "letter"}, "stamped letter",
    )  # fmt: skip
    assert message.content[0].text == "ok: stamped letter"


def test_a_form_of_the_answer(client: openai.OpenAI) -> None:
    """`text.format`; the response says what was asked."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form = {"type": "json_schema", "name": "city", "schema": schema, "strict": False}
    response = ask(client, 'PLAN {"city": "Rome"}', text={"format": form})
    assert json.loads(response.output_text) == {"city": "Rome"}
    assert response.text.format.name == "city"


def test_a_turn_that_fails_is_a_failed_response(client: openai.OpenAI) -> None:
    """With an error that quotes no provider, tool or server."""
    response = ask(client, 'CALL stamp({"wrong": 1})\nCALL stamp({})', model="clerk")
    assert (response.status, response.error.code) == ("failed", "server_error")
    assert client.responses.retrieve(response.id).status == "failed"


# --- what comes before -----------------------------------------------------------------------------------


def test_a_response_follows_another(client: openai.OpenAI) -> None:
    """In its session, with its history, whatever the client posts of the past."""
    first = ask(client, "SAY noted")
    again = ask(client, "RECITE", previous_response_id=first.id)
    assert again.output_text == "SAY noted | noted"
    assert again.previous_response_id == first.id
    assert again.conversation == first.conversation


def test_following_an_earlier_response_is_a_branch(client: openai.OpenAI) -> None:
    """A fork of the session at its turn: the other line of the conversation stays as it is."""
    first = ask(client, "SAY one")
    second = ask(client, "SAY two", previous_response_id=first.id)
    key = {"Idempotency-Key": uuid.uuid4().hex}
    branch, repeat = (ask(client, "RECITE", previous_response_id=first.id, extra_headers=key) for _ in "12")
    assert branch.output_text == "SAY one | one"
    assert repeat.id == branch.id
    assert branch.conversation != first.conversation
    assert ask(client, "RECITE", previous_response_id=second.id).output_text == "SAY one | one | SAY two | two"
    assert ask(client, "RECITE", previous_response_id=branch.id).output_text.endswith("RECITE | SAY one | one")


def test_posted_items_are_the_history_of_a_fresh_session(client: openai.OpenAI) -> None:
    """For clients that keep the conversation themselves."""
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "My name is Alice"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        },
        {"role": "user", "content": "RECITE"},
    ]
    assert ask(client, items).output_text == "My name is Alice | Hello"


# --- calls that wait -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stateless", [False, True])
def test_function_tools_are_outside_results(client: openai.OpenAI, stateless: bool) -> None:
    """Their results continue the turn as the next response; with or without the id of the one before."""
    asked = 'CALL weather({"city": "Rome"})\nCALL weather({"city": "Oslo"})'
    first = ask(client, asked, tools=[WEATHER])
    assert (first.status, [item.type for item in first.output], first.usage) == ("completed", ["function_call"], None)

    def go_on(before: Response) -> Response:
        if stateless:
            history = [{"role": "user", "content": asked}, *(item.model_dump() for item in before.output)]
            return ask(client, [*history, *given(before)], tools=[WEATHER])
        return ask(client, given(before), previous_response_id=before.id, tools=[WEATHER])

    second = go_on(first)
    assert [item.type for item in second.output] == ["function_call"]
    third = go_on(second)
    assert third.output_text == 'ok: rain in {"city": "Oslo"}'
    assert third.usage.total_tokens > 0
    assert third.previous_response_id == second.id
    assert go_on(second) == third, "a repeat changes nothing"
    assert [client.responses.retrieve(each.id).output for each in (first, second, third)] == [
        first.output, second.output, third.output,
    ]  # fmt: skip
    (item,) = client.responses.input_items.list(third.id)
    assert item.output == 'rain in {"city": "Oslo"}'
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(str(replace(ResponseRef.read(third.id), leg=3)))


def test_approvals_are_requests_for_approval(client: openai.OpenAI, fleet: Fleet) -> None:
    """As OpenAI has them for servers' tools. The one who may approve answers in the next request."""
    session = f"openai-{uuid.uuid4().hex}"
    fleet.session(session).Agent("cashier", tools=["refund"]).chat("SAY ready")
    headers = {"X-Session-Id": session}
    asked = ask(client, 'CALL refund({"amount": 9})', model="cashier", extra_headers=headers)
    (request,) = asked.output
    assert (request.type, request.name, json.loads(request.arguments)) == (
        "mcp_approval_request",
        "refund",
        {"amount": 9},
    )
    answer = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    done = ask(client, [answer], model="cashier", previous_response_id=asked.id)
    assert [item.type for item in done.output] == ["mcp_call", "message"]
    assert json.loads(done.output[0].arguments) == {"amount": 9}
    assert done.output_text == "ok: refunded 9"


def test_a_message_instead_of_results_is_refused(client: openai.OpenAI) -> None:
    """The response waits for them; OpenAI refuses it, too."""
    first = ask(client, 'CALL weather({"city": "Rome"})', tools=[WEATHER])
    with pytest.raises(openai.BadRequestError, match="waits for results"):
        ask(client, "SAY never mind", previous_response_id=first.id)


# --- background, cancel, delete --------------------------------------------------------------------------


def test_a_response_in_the_background(client: openai.OpenAI) -> None:
    """Accepted, and found by its id; its stream is there from the beginning."""
    response = ask(client, "SLEEP 0.5\nSAY done at last", background=True)
    assert response.status in ("queued", "in_progress")
    assert response.background
    assert ended(client, response).output_text == "done at last"
    events = list(client.responses.retrieve(response.id, stream=True))
    assert events[-1].response.output_text == "done at last"
    rest = list(client.responses.retrieve(response.id, stream=True, starting_after=events[2].sequence_number))
    assert [event.sequence_number for event in rest] == [event.sequence_number for event in events[3:]]


def test_a_response_is_cancelled(client: openai.OpenAI) -> None:
    """Its turn is stopped on its worker; cancelling it again changes nothing."""
    response = ask(client, "SLEEP 60", background=True)
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.cancel(response.id).status == "cancelled"


def test_a_response_is_deleted(client: openai.OpenAI) -> None:
    """With its turn, which is not part of the conversation any more."""
    first = ask(client, "SAY one")
    second = ask(client, "SAY two", previous_response_id=first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    assert ask(client, "RECITE", previous_response_id=second.id).output_text == "SAY two | two"


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"extra_body": {"surprise": 1}}, "surprise", "unknown_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools", "unsupported_value"),
        ({"said": [{"type": "item_reference", "id": "x"}]}, "input", "unsupported_value"),
        ({"said": [{"role": "user"}]}, "input", "missing_required_parameter"),
        (
            {"previous_response_id": "resp_1", "conversation": "conv_1"},
            "previous_response_id",
            "mutually_exclusive_parameters",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(client: openai.OpenAI, options: Any, param: str, code: str) -> None:
    """In OpenAI's form, with the parameter's name."""
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **{"said": "hi", **options})
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize("response_id", ["resp_1", "resp_" + "0" * 34 + "eA", "resp_" + "0" * 34 + "!"])
def test_ids_of_nothing(client: openai.OpenAI, response_id: str) -> None:
    """Whether they could be ours or not."""
    for call in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            call(response_id)
    with pytest.raises(openai.NotFoundError):
        ask(client, "hi", previous_response_id=response_id)


# --- a crash ---------------------------------------------------------------------------------------------


def test_a_stream_goes_on_after_client_and_worker_were_killed(
    new_fleet: Callable[..., Fleet], new_server: Server, tmp_path: Path
) -> None:
    """The client resumes after the last number that it has: the text is complete, and nothing is repeated.

    A chat completion's client, which cannot resume, reads on from the same connection.
    """
    fleet = new_fleet(SESSIONFLEET_LEASE="2")
    fleet.start("one")
    fleet.ready()
    words = "one two three four five six"
    message = f"SAY {words}\nPACE 0.1\nSTALL 3 60"
    with (
        running_gateway(new_server, tmp_path / "gateway", SESSIONFLEET_GATEWAY_AUTH="off") as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        asked: Any = [{"role": "user", "content": f"{message}\nOTHER"}]
        chat = client.chat.completions.create(model="assistant", messages=asked, stream=True)
        stream = client.responses.create(model="assistant", input=message, stream=True)
        seen: list[Any] = []
        for event in stream:
            seen.append(event)
            if "three" in text_of(seen):
                break
        stream.close()
        fleet.noted("stalled", 2)
        fleet.workers[0].kill()
        fleet.start("two")
        rest = list(
            client.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
        )
        assert text_of([*seen, *rest]) == words
        assert rest[-1].response.output_text == words
        numbers = [event.sequence_number for event in [*seen, *rest]]
        assert numbers == list(range(len(numbers)))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chat) == words


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")
