"""Providers' prompt caches, as the vendors' own clients ask for them: what is sent, what is read, what it costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import httpx2
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai import Agent, models
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from sessions.protocol.turn import Usage
from sessions.tools.decorator import tool
from tests.unit.engine.doubles import Rig
from workers.engine import PastTurn
from workers.engine.ports import Recalled

USED = {"input_tokens": 5, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 200, "output_tokens": 7}


class Recorder:
    """Answers all requests of a vendor's client, and keeps their bodies. The vendors use different HTTP clients.

    The next answers call a tool, as often as `calls` says.
    """

    def __init__(self, answer: Callable[[Recorder], bytes], http: Any = httpx, kind: str = "application/json") -> None:
        self.bodies: list[dict[str, Any]] = []
        self.calls = 0

        def respond(request: Any) -> Any:
            self.bodies.append(json.loads(request.content))
            return http.Response(200, content=answer(self), headers={"content-type": kind})

        self.client = http.AsyncClient(transport=http.MockTransport(respond))


@pytest.fixture(autouse=True)
def _requests_to_a_recorder(monkeypatch: pytest.MonkeyPatch, _no_paid_requests: None) -> None:
    monkeypatch.setattr(models, "ALLOW_MODEL_REQUESTS", True)


def _events(recorder: Recorder) -> bytes:
    """An answer of Anthropic's, as the stream that its client asks for."""
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta: dict[str, Any] = {"type": "text_delta", "text": "well"}
    if recorder.calls:
        recorder.calls -= 1
        block = {"type": "tool_use", "id": f"c{len(recorder.bodies)}", "name": "look", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": '{"where": "here"}'}
    why = "tool_use" if block["type"] == "tool_use" else "end_turn"
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": USED}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": why, "stop_sequence": None}, "usage": USED},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


@pytest.fixture
def claude() -> tuple[Recorder, Callable[..., Model]]:
    recorder = Recorder(_events, httpx2, "text/event-stream")

    def made(settings: ModelSettings | None = None) -> Model:
        vendor = AsyncAnthropic(api_key="k", base_url="http://127.0.0.1:9", http_client=recorder.client)
        provider = AnthropicProvider(anthropic_client=vendor)
        return AnthropicModel("claude-sonnet-4-6", provider=provider, settings=settings)

    return recorder, made


def gpt(recorder: Recorder, url: str = "https://api.openai.com/v1", model: str = "gpt-5") -> Model:
    client = AsyncOpenAI(api_key="k", base_url=url, http_client=recorder.client)
    return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))


def completion() -> Recorder:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "well"}}
    details = {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-5", "choices": [choice]}
    return Recorder(lambda _: json.dumps({**answer, "usage": details}).encode())


@tool
def look(where: str) -> str:
    """Look somewhere."""
    return "seen"


async def talk(rig: Rig, turns: int, recalled: str = "", recorder: Recorder | None = None, **turn: Any) -> None:
    """Some turns of a session; each one's entry is in the history of the next. Every other one calls 15 tools."""
    history: list[PastTurn] = []
    for number in range(1, turns + 1):
        rig.store.clear()
        if recorder is not None and number % 2:
            recorder.calls = 15
        found = Recalled(f"{recalled} {number}" if recalled else "")
        asked = rig.turn(f"message {number}", number=number, model="m", instructions="Be kind.")
        output = await rig.run(replace(asked, history=list(history), recalled=found, **turn))
        ids = {"turn_id": asked.turn_id, "session_id": asked.session_id}
        history.append(PastTurn("Assistant", output.messages, **ids))


def blocks(body: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The request in the order in which the provider caches it, and the lengths of the prefixes that are marked."""
    parts = [*body.get("tools", ()), *body["system"]]
    for message in body["messages"]:
        content = message["content"]
        texts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        parts += [{"role": message["role"], **part} for part in texts]
    marked = [number for number, part in enumerate(parts, 1) if "cache_control" in part]
    if "cache_control" in body:  # the provider marks the last part itself
        marked.append(len(parts))
    return [json.dumps({k: v for k, v in part.items() if k != "cache_control"}) for part in parts], marked


@pytest.mark.parametrize("recalled", ["", "- The user likes tea"])
async def test_what_is_marked_is_the_beginning_of_the_next_request(rig: Rig, claude: Any, recalled: str) -> None:
    """Up to the user's message; what was found for it comes after the mark, since the next request does not have it."""
    recorder, made = claude
    rig.tool(look)
    rig.registry.add_model("m", made())
    await talk(rig, 4, recalled)
    for number, (before, after) in enumerate(zip(recorder.bodies, recorder.bodies[1:], strict=False), 1):
        sent, marked = blocks(before)
        following, _ = blocks(after)
        shared = [length for length in marked if sent[:length] == following[:length]]
        assert f"message {number}" in sent[max(shared) - 1]
        assert 1 in shared, "the tools have a mark of their own: other sessions of the agent begin with them"
        assert len(marked) <= 4, "the provider refuses more"
        assert sum("tea" in part for part in sent) == bool(recalled)


LOOKBACK = 20
"""So far before a mark the provider looks for what it has stored, in parts of the request."""


@pytest.mark.parametrize("recalled", ["", "- The user likes tea"])
async def test_the_provider_finds_the_last_message_after_long_turns(rig: Rig, claude: Any, recalled: str) -> None:
    """A cache that works as Anthropic describes: it stores what is marked, and looks back from each mark."""
    recorder, made = claude
    rig.tool(look)
    rig.registry.add_model("m", made())
    await talk(rig, 6, recalled, recorder)
    stored: set[str] = set()
    for body in recorder.bodies:
        sent, marked = blocks(body)
        assert len(marked) <= 4
        reach = {end for mark in marked for end in range(max(1, mark - LOOKBACK), mark + 1)}
        found = max((end for end in reach if _prefix(sent, end) in stored), default=0)
        asked = [place for place, part in enumerate(sent, 1) if '"text": "message ' in part]
        begins = asked[-1] >= len(sent) - 1  # the turn's first request: its message is at the end
        if begins and len(asked) > 1:
            assert found >= asked[-2]
        elif not begins:
            assert found >= asked[-1]
        stored |= {_prefix(sent, mark) for mark in marked}


def _prefix(sent: list[str], end: int) -> str:
    return "\0".join(sent[:end])


@pytest.mark.parametrize("who", ["worker", "turn", "model", "agent"])
async def test_the_cache_can_be_turned_off(rig: Rig, claude: Any, who: str) -> None:
    """By the worker's setting, a turn's, a model's and a registered agent's."""
    recorder, made = claude
    off = ModelSettings(cache=False)
    model = made(off if who == "model" else None)
    rig.registry.add_model("m", model)
    rig.registry.add_agent("Mine", Agent(model, model_settings=off if who == "agent" else None))
    registered = rig.turn("hello", name="Mine", registered=True, model=None)
    turn = registered if who == "agent" else rig.turn("hello", model="m")
    settings = off if who == "turn" else {}
    await rig.run(replace(turn, recalled=Recalled("x"), model_settings=settings), prompt_cache=who != "worker")
    assert "cache_control" not in json.dumps(recorder.bodies)


async def test_a_providers_own_setting_replaces_the_general_one(rig: Rig, claude: Any) -> None:
    """Who asks for an hour for the instructions alone gets that."""
    recorder, made = claude
    rig.registry.add_model("m", made())
    await talk(rig, 1, "tea", model_settings={"anthropic_cache_instructions": "1h"})
    [body] = recorder.bodies
    assert body["system"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert json.dumps(body).count("cache_control") == 1


async def test_tokens_of_the_cache_are_counted_and_priced(rig: Rig, claude: Any) -> None:
    """Anthropic's prices per million: 3 in, 0.30 from the cache, 3.75 into it, 15 out."""
    _, made = claude
    rig.registry.add_model("m", made())
    output = await rig.run(rig.turn("hello", model="m"))
    cost = (5 * 3 + 1000 * 0.30 + 200 * 3.75 + 7 * 15) / 1_000_000
    expected = Usage(
        requests=1, input_tokens=1205, cache_read_tokens=1000, cache_write_tokens=200, output_tokens=7, cost=cost
    )
    assert output.usage == expected.model_copy(update={"cost": pytest.approx(cost)})


async def test_the_requests_of_a_session_have_a_key(rig: Rig) -> None:
    """The same for all of them, and it does not tell the session's id. Only where a server knows that field."""
    recorder = completion()
    rig.registry.add_model("m", gpt(recorder))
    await talk(rig, 2)
    keys = {body["prompt_cache_key"] for body in recorder.bodies}
    assert [len(key) for key in keys] == [32]
    await talk(rig, 1, session_id="another")
    assert recorder.bodies[-1]["prompt_cache_key"] not in keys
    await talk(rig, 1, model_settings={"openai_prompt_cache_key": "mine"})
    assert recorder.bodies[-1]["prompt_cache_key"] == "mine"
    rig.registry.add_model("local", gpt(recorder, "http://127.0.0.1:9/v1"))
    await talk(rig, 1, models=("local",))
    assert "prompt_cache_key" not in recorder.bodies[-1]
    await talk(rig, 1, models=("m", "local"))
    assert "prompt_cache_key" not in recorder.bodies[-1]


async def test_models_that_cache_by_themselves_get_plain_messages(rig: Rig) -> None:
    """Some servers of that protocol take only texts; the message of a turn looks the same in the next request."""
    recorder = completion()
    rig.registry.add_model("m", gpt(recorder))
    await talk(rig, 2, "- The user likes tea")
    first, second = ([m["content"] for m in body["messages"]] for body in recorder.bodies)
    assert all(isinstance(content, str) for content in (*first, *second))
    assert first[-1].startswith(f"{second[1]}\n\n<retrieved>")


async def test_new_models_of_openai_get_marks(rig: Rig) -> None:
    """Those that take them cache what others find by themselves."""
    recorder = completion()
    rig.registry.add_model("m", gpt(recorder, model="gpt-5.6"))
    await talk(rig, 1, "tea")
    [body] = recorder.bodies
    assert "prompt_cache_options" in body
    content = body["messages"][-1]["content"]
    assert ["prompt_cache_breakpoint" in part for part in content] == [True, False]
