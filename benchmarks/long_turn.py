"""A long turn late in a long conversation: what its journal grows by, what a step costs, and what a replay costs.

python -m benchmarks.long_turn [calls [killed_after]]

100 model calls with a tool result of 5,000 characters each, after 100 turns with about 200,000 tokens of this
repository's documentation. The turn is begun, recorded and resumed on a server of its own as by a worker, in this
process; the worker is killed in the request after call 90. CPU is that of this process; on a busy machine it is more,
so read the ratios. Each part of a replay is timed where it happens.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar
from unittest import mock

from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import RequestUsage, UsageLimits

from broker_config.settings import Settings
from sessions.protocol.agent import AgentConfig
from sessions.protocol.turn_limits import NO_LIMITS
from sessions.store.open_turn import OpenTurn
from sessions.store.sealing import KeyRing
from sessions.tools.decorator import tool
from tests.support.conversation import Conversation
from tests.support.servers import Server, running
from workers.engine import Engine, Registry, TurnInput, asked_request, model_journal
from workers.engine.recorded_call import load_call
from workers.engine.transcript import load_history
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal
from workers.turns.turn_input import input_of, request_of

PAST, ANSWER, PAST_RESULT, MESSAGE = 100, 4_500, 3_000, 500
"""The turns before the long one, and the characters of their answers, tool results and messages."""
RESULT = 5_000
REPEATS = 5
KEYS = f"k1:{base64.b64encode(bytes(32)).decode()}"
T = TypeVar("T")


class Killed(BaseException):
    """kill -9, as far as a run can tell."""


@dataclass
class Meter:
    """What a run does, as its model and tool see it.

    Attributes:
        calls: after so many the model answers.
        stop: in the request with this number the worker is killed; 0 for never.
        began: CPU seconds at the beginning of each model request.
    """

    calls: int
    stop: int = 0
    began: list[float] = field(default_factory=list)
    tools: int = 0

    def respond(self, messages: list[ModelMessage]) -> ModelResponse:
        self.began.append(time.process_time())
        run_id = messages[-1].run_id
        number = 1 + sum(isinstance(message, ModelResponse) and message.run_id == run_id for message in messages)
        if number == self.stop:
            raise Killed
        usage = RequestUsage(input_tokens=200_000, output_tokens=50)
        if number > self.calls:
            return ModelResponse(parts=[TextPart("That is all.")], usage=usage)
        call = ToolCallPart("read_page", {"page": number}, tool_call_id=f"call_{number}")
        return ModelResponse(parts=[TextPart("I read on."), call], usage=usage)


class Texts:
    """Texts of this repository's documentation, from different places."""

    def __init__(self) -> None:
        self.opening = ""
        docs = Path(__file__).parents[1] / "docs"
        self._words = " ".join(path.read_text() for path in sorted(docs.glob("*.md"))).split(" ")
        self._random = random.Random(1)

    def text(self, length: int) -> str:
        start = self._random.randrange(len(self._words) - length)
        return (self.opening + " ".join(self._words[start : start + length]))[:length]


TEXTS = Texts()
HTML = "<p>naïve</p> "
"""pydantic-ai looks more closely at texts that have both an angle bracket and letters beyond ASCII."""


def past_turn(number: int) -> bytes:
    """A turn of the conversation before, in pydantic-ai's format."""
    call = ToolCallPart("read_page", {"page": 1}, tool_call_id=f"past_{number}")
    result = ToolReturnPart("read_page", TEXTS.text(PAST_RESULT), tool_call_id=f"past_{number}")
    run = f"past{number}"
    messages = [
        ModelRequest(parts=[UserPromptPart(TEXTS.text(MESSAGE))], run_id=run),
        ModelResponse(parts=[call], run_id=run),
        ModelRequest(parts=[result], run_id=run),
        ModelResponse(parts=[TextPart(TEXTS.text(ANSWER))], run_id=run),
    ]
    return ModelMessagesTypeAdapter.dump_json(messages)


class LongTurn:
    """One long turn of a session, on the store."""

    def __init__(self, talk: Conversation, meter: Meter, *, stream: bool) -> None:
        self.meter = meter
        self._talk = talk
        self._stream = stream
        pages = [TEXTS.text(RESULT) for _ in range(meter.calls + 1)]

        async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            return meter.respond(messages)

        async def stream_answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
            for place, part in enumerate(meter.respond(messages).parts):
                if isinstance(part, TextPart):
                    for word in part.content.split():
                        yield word + " "
                elif isinstance(part, ToolCallPart):
                    yield {place: DeltaToolCall(part.tool_name, json.dumps(part.args), tool_call_id=part.tool_call_id)}

        @tool
        async def read_page(page: int) -> str:
            """Read a page."""
            meter.tools += 1
            return pages[page]

        self.registry = Registry()
        self.registry.add_tool(read_page)
        self.registry.add_model("scripted", FunctionModel(answer, stream_function=stream_answer))
        self.plain_tool = read_page
        self._engine = Engine(self.registry, history_tokens=10_000_000)

    async def run(self, begun: OpenTurn) -> HeldTurn:
        """Run the turn, or what is left of it, until it ends or its worker is killed."""
        held = HeldTurn(self._talk.keys, begun, begun.lease.partition(":")[2], float("inf"), self._talk.leases)
        journal = LeasedJournal(self._talk.leases, held)
        with contextlib.suppress(Killed):
            await self._engine.run(self.input(held), journal, journal, held.state)
            await journal.settle()
        return held

    def input(self, held: HeldTurn) -> TurnInput:
        agent = AgentConfig(name="A", instructions="You are helpful.", model="scripted", tools=("read_page",))
        given = input_of(held, request_of(held), "offline", NO_LIMITS)
        return replace(given, agent=agent, stream=self._stream)


class Split:
    """CPU seconds of parts of a run, each timed where it is called."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)

    def timed(self, name: str, function: Callable[..., T]) -> Callable[..., T]:
        def call(*args: Any, **kwargs: Any) -> T:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.process_time() - began
                self.calls[name] += 1

        return call

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Time the parts in this block."""
        places: list[tuple[Any, str, str]] = [
            (KeyRing, "open", "decrypting"),
            (asked_request, "fingerprint", "fingerprints"),
            (model_journal, "fingerprint", "fingerprints"),
            (asked_request, "load_record", "parsing recorded responses"),
            (FunctionModel, "prepare_messages", "preparing requests for the model"),
        ]
        with contextlib.ExitStack() as patches:
            for owner, name, part in places:
                patches.enter_context(mock.patch.object(owner, name, self.timed(part, getattr(owner, name))))
            patches.enter_context(
                mock.patch("workers.engine.recorded_call.load_call", self.timed("parsing recorded calls", load_call))
            )
            patches.enter_context(
                mock.patch("workers.engine.engine.load_history", self.timed("parsing the history", load_history))
            )
            yield


async def journal_bytes(talk: Conversation, begun: OpenTurn) -> dict[str, int]:
    """The sizes of a journal's steps as they are stored; under "" what the store needs for all of them."""
    key = talk.keys.journal(begun.part)
    sizes = {name.decode(): len(raw) for name, raw in (await talk.client.hgetall(key)).items()}
    return {**sizes, "": await talk.client.memory_usage(key, samples=0) or 0}


async def measure(
    server: Server, calls: int, killed_after: int, *, stream: bool = False, keys: str | None = None, html: bool = False
) -> None:
    """Run the turn until its worker is killed, replay it, and print what that took."""
    # No heartbeat renews the lease.
    limits = {"history_window": 1000, "history_window_bytes": 2**26, "lease": 300.0}
    settings = Settings(redis_url=server.url, encryption_keys=keys, **limits)  # type: ignore[arg-type]
    talk, TEXTS.opening = Conversation(settings), HTML if html else ""
    try:
        past = [past_turn(number) for number in range(PAST)]
        for messages in past:
            await talk.chat(messages)
        turn = LongTurn(talk, Meter(calls, stop=killed_after + 1), stream=stream)
        begun = await talk.begin("Read all pages.")
        await turn.run(begun)
        marks = (("streamed", stream), ("encrypted", keys), ("every text with HTML and accents", html))
        print("\n" + (", ".join(mark for mark, given in marks if given) or "neither streamed nor encrypted"))
        print_journal(await journal_bytes(talk, begun), killed_after)
        print_steps(turn.meter, killed_after)
        await print_replays(talk, turn, killed_after)
        if not stream and not keys and not html:
            await print_bare(turn, past)
    finally:
        await talk.close()


def print_journal(sizes: dict[str, int], killed_after: int) -> None:
    total, steps = 0, []
    for number in range(1, killed_after + 1):
        total += sizes[f"model:{number}"] + sizes[f"tool:{number}:call_{number}:0"]
        steps.append(total)
    shown = sorted({1, 10, killed_after // 2, killed_after})
    print("  journal after call: " + ", ".join(f"{n}: {steps[n - 1]:,} bytes" for n in shown))
    print(f"  largest step {max(v for k, v in sizes.items() if k):,} bytes; in the store {sizes['']:,} bytes")


def print_steps(meter: Meter, killed_after: int) -> None:
    took = [(after - before) * 1000 for before, after in zip(meter.began, meter.began[1:], strict=False)]
    shown = sorted({3, 10, killed_after // 2, killed_after - 2})
    near = {n: median(took[max(0, n - 3) : n + 2]) for n in shown}
    print("  CPU of a step, ms:  " + ", ".join(f"{n}: {ms:.1f}" for n, ms in near.items()))


async def print_replays(talk: Conversation, turn: LongTurn, killed_after: int) -> None:
    """The turn is taken once, since each time counts as a crash, and replayed several times."""
    reading = Split()
    with reading.watching():
        began = time.process_time()
        begun = await talk.resume()
        reading.seconds["reading from the store"] = time.process_time() - began - reading.seconds["decrypting"]
    whole: list[float] = []
    parts: list[Split] = []
    for _ in range(REPEATS):
        split, turn.meter.began, turn.meter.tools = Split(), [], 0
        with split.watching():
            began = time.process_time()
            await turn.run(begun)
        whole.append(turn.meter.began[0] - began + sum(reading.seconds.values()))
        parts.append(split)
        assert (len(turn.meter.began), turn.meter.tools) == (1, 0), "a step was repeated"
    shares = dict(reading.seconds)
    for name in {name for each in parts for name in each.seconds}:
        shares[name] = median(each.seconds[name] for each in parts)
    shares["the rest: pydantic-ai, the journal's look-ups, the loop"] = median(whole) - sum(shares.values())
    print(f"  CPU of a replay of {killed_after} steps: {median(whole):.3f} s (the median of {REPEATS}; "
          f"{min(whole):.3f} to {max(whole):.3f}), of which")  # fmt: skip
    for name, seconds in shares.items():
        times = parts[0].calls[name] or reading.calls[name]
        print(f"    {seconds:6.3f} s  {name}" + (f" ({times})" if times else ""))


async def print_bare(turn: LongTurn, past: list[bytes]) -> None:
    """The same calls by pydantic-ai alone: no journal, no store."""
    turn.meter.began = []
    agent = Agent(turn.registry.models["scripted"], instructions="You are helpful.", tools=[turn.plain_tool])
    history = [message for each in past for message in ModelMessagesTypeAdapter.validate_json(each)]
    with contextlib.suppress(Killed):
        await agent.run("Read all pages.", message_history=history, usage_limits=UsageLimits(request_limit=None))
    print("  pydantic-ai alone:")
    print_steps(turn.meter, turn.meter.stop - 1)


def main() -> None:
    """Print the figures."""
    calls, killed_after = int(sys.argv[1]) if sys.argv[1:] else 100, int(sys.argv[2]) if sys.argv[2:] else 90
    size = sum(len(past_turn(number)) for number in range(PAST))
    print(f"{PAST} turns before it, {size:,} bytes of messages; {calls} calls, results of {RESULT:,} characters")
    with tempfile.TemporaryDirectory() as folder, running(Server(Path(folder))) as server:
        cases: list[dict[str, Any]] = [{}, {"stream": True}, {"keys": KEYS}, {"html": True}]
        for case in cases:
            asyncio.run(measure(server, calls, killed_after, **case))


if __name__ == "__main__":
    main()
