"""How a run ends early: cancelled, handed over, lost, or failed; each is distinguished."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai import exceptions as pai
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models import override_allow_model_requests

from sessions.errors import (
    ContentFiltered,
    ContextTooLong,
    ModelAccessDenied,
    ModelError,
    ModelQuotaExhausted,
    OutputInvalid,
    SessionfleetError,
    ToolError,
    TurnConfigurationError,
    TurnFailed,
)
from sessions.tools.decorator import tool
from workers.engine import Engine, EventDraft, HandedOver, LeaseLost, TransientModelError
from workers.engine.failures import classify

from .doubles import DictJournal, ListSink, Rig, call


@pytest.mark.parametrize("stream", [False, True])
async def test_a_draining_worker_hands_over_before_the_next_request(rig: Rig, stream: bool) -> None:
    """The tool ends, its result is kept, and the model is asked by another worker."""

    @tool
    async def stop() -> str:
        rig.state.draining = True
        return "stopped"

    rig.tool(stop)
    rig.script([call("stop", "c1")], [TextPart("Done.")])
    with pytest.raises(HandedOver):
        await rig.run(rig.turn(stream=stream))
    assert rig.outcomes() == ["ok"]
    assert rig.state.tools_running == 0
    rig.state.draining = False
    assert (await rig.run(rig.turn(stream=stream))).text.strip() == "Done."
    assert rig.paid == [1, 2]


async def test_a_draining_worker_starts_no_tool(rig: Rig) -> None:
    """No call is in doubt when the worker then ends."""

    @tool
    async def charge() -> str:
        rig.effects.append("charge")
        return "charged"

    def answer(*_: Any) -> ModelResponse:
        rig.state.draining = True
        return ModelResponse(parts=[call("charge", "c1"), call("charge", "c2")])

    rig.tool(charge)
    rig.model(answer)
    with pytest.raises(HandedOver):
        await rig.run()
    assert rig.effects == []
    assert list(rig.store) == ["model:1"]


async def test_a_draining_worker_does_not_cut_a_tool_that_runs_beside(rig: Rig) -> None:
    """Handing over at the second tool would cancel the first one half-way."""

    @tool
    async def first() -> str:
        rig.state.draining = True
        for _ in range(20):
            await asyncio.sleep(0)
        rig.effects.append("first")
        return "1"

    @tool
    async def second() -> str:
        rig.effects.append("second")
        return "2"

    rig.tool(first)
    rig.tool(second)
    rig.script([call("first", "c1"), call("second", "c2")], [TextPart("Done.")])
    with pytest.raises(HandedOver):
        await rig.run()
    assert sorted(rig.effects) == ["first", "second"]
    assert rig.outcomes() == ["ok", "ok"]


async def test_the_runner_sees_how_many_tools_run(rig: Rig) -> None:
    """Counted from before the start is recorded until after the result is."""
    seen: list[int] = []

    class Watching(DictJournal):
        async def record(
            self, key: str, value: bytes, events: Sequence[EventDraft] = (), files: Sequence[str] = ()
        ) -> None:
            if key.startswith("tool"):
                seen.append(rig.state.tools_running)
            await super().record(key, value, events, files)

    @tool
    async def work() -> str:
        seen.append(rig.state.tools_running)
        return "1"

    rig.tool(work)
    rig.script([call("work", "c1")], [TextPart("Done.")])
    journal = Watching(rig.store, rig.events)
    await Engine(rig.registry).run(rig.turn(), journal, ListSink(rig.events), rig.state)
    assert seen == [1, 1, 1]
    assert rig.state.tools_running == 0


async def test_a_lost_lease_ends_the_run_though_a_tool_swallows_everything(rig: Rig) -> None:
    """Whatever the agent does with the error: nothing more is started, and the runner gets it unwrapped."""
    rig.script([TextPart("Done.")])

    class Lost(DictJournal):
        async def record(
            self, key: str, value: bytes, events: Sequence[EventDraft] = (), files: Sequence[str] = ()
        ) -> None:
            raise LeaseLost("taken")

        def record_final(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
            raise LeaseLost("taken")

    with pytest.raises(LeaseLost, match="taken"):
        await Engine(rig.registry).run(rig.turn(), Lost(rig.store, rig.events), ListSink(rig.events), rig.state)


class Careless(AbstractCapability[Any]):
    """A user's hook that swallows whatever a tool or a request ends with."""

    async def on_tool_execute_error(self, ctx: Any, **_: Any) -> Any:
        return "never mind"

    async def on_model_request_error(self, ctx: Any, **_: Any) -> Any:
        return ModelResponse(parts=[TextPart("never mind")])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("lost_at", ["model:1", "tool:1:c1:0", "model:2"])
async def test_an_agent_cannot_swallow_what_ends_its_run(rig: Rig, lost_at: str, stream: bool) -> None:
    """A run that has lost its lease never comes back as a success, whatever the agent's hooks do."""
    rig.script([call("look", "c1")], [TextPart("Done.")])

    class Lost(DictJournal):
        async def record(
            self, key: str, value: bytes, events: Sequence[EventDraft] = (), files: Sequence[str] = ()
        ) -> None:
            if key == lost_at:
                raise LeaseLost("taken")
            await super().record(key, value, events, files)

    agent = Agent(rig.registry.models["scripted"], capabilities=[Careless()])

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    rig.registry.add_agent("careless", agent)
    turn = rig.turn(name="careless", registered=True, model=None, tools=(), stream=stream)
    with pytest.raises(LeaseLost, match="taken"):
        await Engine(rig.registry).run(turn, Lost(rig.store, rig.events), ListSink(rig.events), rig.state)


async def test_cancelling_a_run_cancels_the_request(rig: Rig) -> None:
    """CancelledError goes in and comes out; nothing is recorded."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def answer(*_: Any) -> ModelResponse:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    rig.model(answer)
    running = asyncio.create_task(rig.run())
    await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
    assert rig.store == {}


class Provider:
    """Speaks as much HTTP as an OpenAI client needs."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        await reader.readexactly(length)
        self.asked.set()
        if self.answer is not None:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
                + str(len(self.answer)).encode()
                + b"\r\n\r\n"
                + self.answer
            )
            await writer.drain()
        else:
            assert await reader.read() == b""
            self.gone.set()
        writer.close()
        await writer.wait_closed()


ANSWER = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"Hello."}}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
)


@pytest.mark.parametrize("answer", [ANSWER, None], ids=["answered", "cancelled"])
async def test_a_provider_at_openai_base_url_is_used_and_left_when_cancelled(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    """Cancelling closes the connection, so that the provider stops working for an unwanted turn."""
    provider = Provider(answer)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    async with server:
        with override_allow_model_requests(True):
            running = asyncio.create_task(rig.run(rig.turn(model="openai-chat:m")))
            await provider.asked.wait()
            if answer is not None:
                output = await running
                assert (output.text, output.usage.output_tokens) == ("Hello.", 2)
                return
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await asyncio.wait_for(provider.gone.wait(), 5)


async def test_an_answer_that_never_fits_is_an_invalid_output(rig: Rig) -> None:
    """The model is asked again as often as the agent allows, then the turn fails."""
    rig.script([])
    with pytest.raises(OutputInvalid):
        await rig.run()
    assert len(rig.paid) == 3


async def test_a_passing_error_of_the_model_is_told_apart(rig: Rig) -> None:
    """The runner tries again later, from the journal; the request that failed left no gap."""

    def answer(*_: Any) -> ModelResponse:
        rig.effects.append("asked")
        if len(rig.effects) == 1:
            raise pai.ModelHTTPError(503, "m", headers={"retry-after": "7"})
        return ModelResponse(parts=[TextPart("Done.")])

    rig.model(answer)
    with pytest.raises(TransientModelError) as caught:
        await rig.run()
    assert caught.value.retry_after == 7
    assert (await rig.run()).text == "Done."
    assert list(rig.store) == ["model:1"]


class _Unreachable(ConnectionError):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *[(pai.ModelHTTPError(status, "m"), TransientModelError) for status in (408, 409, 425, 429, 500, 503, 529)],
        *[(pai.ModelHTTPError(status, "m"), ModelError) for status in (400, 401, 404, 422)],
        (
            pai.ModelHTTPError.for_category(pai.ModelQuotaExceededError, status_code=429, model_name="m"),
            ModelQuotaExhausted,
        ),
        (
            pai.ModelHTTPError.for_category(pai.ModelAuthenticationError, status_code=401, model_name="m"),
            ModelAccessDenied,
        ),
        (pai.ModelContextWindowExceededError("m", "too long"), ContextTooLong),
        (pai.ModelHTTPError(400, "m", {"error": {"code": "content_filter", "message": "no"}}), ContentFiltered),
        (pai.ModelConnectionError("m", "refused"), TransientModelError),
        (pai.ModelTimeoutError("m", "slow"), TransientModelError),
        (pai.ModelRequestTimeout("m", 3.0), TransientModelError),
        (pai.ModelRateLimitError("m", "in the stream", in_stream=True), TransientModelError),
        (TimeoutError(), TransientModelError),
        (_Unreachable("gone"), TransientModelError),
        (
            pai.FallbackExceptionGroup("all", [pai.ModelHTTPError(400, "a"), pai.ModelHTTPError(503, "b")]),
            TransientModelError,
        ),
        (pai.FallbackExceptionGroup("all", [pai.ModelHTTPError(400, "a")]), ModelError),
        (pai.ContentFilterError("filtered"), ContentFiltered),
        (pai.UsageLimitExceeded("too much"), ModelError),
        (pai.UnexpectedModelBehavior("Exceeded maximum output retries (2)"), OutputInvalid),
        (pai.UnexpectedModelBehavior("odd"), ModelError),
        (pai.UserError("wrong"), TurnConfigurationError),
        (pai.RunCancelled("stop"), TurnFailed),
        (KeyError("bug"), TurnFailed),
    ],
    ids=lambda value: getattr(value, "__name__", None) or f"{type(value).__name__}-{value}"[:40],
)
def test_each_error_has_its_class(error: Exception, kind: type[Exception]) -> None:
    """Transient errors are retried, the others end the turn with what the provider said."""
    assert type(classify(error)) is kind


def test_a_refusal_is_told_in_the_provider_s_own_sentence() -> None:
    """A caller reads one sentence, not a kilobyte of JSON."""
    body = {"error": {"message": "Incorrect API key provided.", "type": "x", "param": {"more": "x" * 2000}}}
    refused = pai.ModelHTTPError.for_category(pai.ModelAuthenticationError, status_code=401, model_name="m", body=body)
    said = str(classify(refused))
    assert "status 401, model 'm': Incorrect API key provided." in said
    assert len(said) < 400


@pytest.mark.parametrize("error", [ToolError("x"), LeaseLost("x"), HandedOver("x"), TransientModelError("x")])
def test_errors_of_our_own_stay_as_they_are(error: Exception) -> None:
    """They are not classified again."""
    assert classify(error) is error


async def test_an_error_of_the_agents_own_code_is_named(rig: Rig) -> None:
    """An instruction function that raises ends the turn, with its exception's type."""
    rig.script([TextPart("Done.")])
    agent = Agent(rig.registry.models["scripted"])

    @agent.instructions
    def broken() -> str:
        raise KeyError("user")

    rig.registry.add_agent("support", agent)
    with pytest.raises(TurnFailed, match=r"the agent raised KeyError; the worker's log has its text") as caught:
        await rig.run(rig.turn(name="support", registered=True, model=None, tools=()))
    assert type(caught.value) is TurnFailed
    assert isinstance(caught.value, SessionfleetError)
