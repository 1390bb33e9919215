"""What a session still knows of facts that have left the window: with a summary, and without.

python -m benchmarks.compaction_recall [MODEL] [turns]

Facts are told in the first turns of a conversation, followed by small talk, all of it written by this script. Then each
fact is asked for, in a turn that begins as any turn of the session would. The model writes the summaries and answers
the questions; without one, a double does: it keeps every line with a number or a name, and answers with its whole
prompt, so it only shows whether the text gets to where it belongs.

A model at a server of your own: `OPENAI_BASE_URL=... OPENAI_API_KEY=any python -m benchmarks.compaction_recall
openai-chat:local`.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from broker_config.settings import Settings
from sessions.protocol.agent import AgentConfig
from sessions.protocol.compaction_requests import Compact
from sessions.protocol.turn import TurnStatus
from sessions.store.history import HistoryEntry
from sessions.store.leases import Ending, LeaseStore
from tests.support.compacting import LaneWorker, Talk
from tests.support.servers import Server, running
from workers.engine import Engine, EventDraft, PastTurn, Registry, RunState, TurnInput

WINDOW: Final = 8
TOKENS: Final = 2_000
"""The most turns of the window, and the most tokens of a conversation. A chunk has 4,000 bytes, a summary 2,000."""
FACTS: Final = (
    ("My locker code is 7391.", "What is my locker code?", "7391"),
    ("My cat is called Bramble.", "What is my cat called?", "bramble"),
    ("My train to Lindau leaves at 06:42.", "When does my train to Lindau leave?", "06:42|6:42"),
    ("My sister Ingrid lives in Tromso.", "Where does my sister Ingrid live?", "troms"),
    ("We decided to paint the shed turquoise.", "Which colour did we decide on for the shed?", "turquoise"),
    ("The invoice has the number RX-20418.", "What is the number of the invoice?", "20418"),
    ("I am allergic to hazelnuts.", "What am I allergic to?", "hazelnut"),
    ("My budget for the trip is 1350 euros.", "What is my budget for the trip, in euros?", "1,?350"),
)
"""What the user tells, how it is asked for, and what the answer must contain."""
_TOPICS: Final = ("otters", "rivers", "old maps", "bread", "kites", "lighthouses", "moss", "clocks", "ferries", "tea")
_INSTRUCTIONS: Final = "You are a friendly assistant. Answer in one short sentence. If you do not know, say so."


class _Journal:
    """Of a question: nothing survives it."""

    def __init__(self) -> None:
        self._steps: dict[str, bytes] = {}

    def lookup(self, key: str) -> bytes | None:
        return self._steps.get(key)

    async def record(self, key: str, value: bytes, events: object = (), files: object = ()) -> None:
        self._steps[key] = value

    def record_final(self, key: str, value: bytes, events: object = ()) -> None:
        self._steps[key] = value

    def check_held(self) -> None:
        """The lease never ends."""

    async def take_steering(self, key: str) -> bytes:
        return b""

    async def emit(self, events: list[EventDraft]) -> None:
        """Nobody reads the stream."""


@dataclass(frozen=True)
class Found:
    """What came of a conversation.

    Attributes:
        answers: to each question, and whether it is right.
        requests: for summaries; seconds: that they took.
        summary: the last one.
    """

    answers: list[tuple[str, bool]]
    requests: int
    seconds: float
    summary: str

    @property
    def known(self) -> int:
        """How many answers are right."""
        return sum(right for _, right in self.answers)


async def recall(settings: Settings, model: str, turns: int, compact: Compact) -> Found:
    """Tell the facts, talk about other things, and ask for the facts."""
    registry = Registry()
    registry.add_model("double", FunctionModel(_double))
    engine = Engine(registry, default_model=model, history_tokens=TOKENS)
    update = {"compact": compact, "history_window": WINDOW, "model": model}
    talk = Talk(settings.model_copy(update=update))
    talk.leases = LeaseStore(talk.scripts, talk.settings.model_copy(update={"lease": 86_400.0}), "w")  # it may be slow
    worker = LaneWorker(talk, engine)
    texts, requests, seconds = random.Random(1), 0, 0.0
    try:
        for number in range(turns):
            begun = await talk.begin()
            await talk.commit(begun, _exchange(texts, number))
            started = time.monotonic()
            requests += await worker.all()
            seconds += time.monotonic() - started
        answers = [await _asked(talk, engine, model, question, right) for _, question, right in FACTS]
        return Found(answers, requests, seconds, (await talk.summaries.newest(talk.keys)).text)
    finally:
        await talk.turns.delete_session(worker.lane)
        await talk.close()


def _exchange(texts: random.Random, number: int) -> bytes:
    """A turn of the conversation: with a fact, if there is one left."""
    one, other = texts.sample(_TOPICS, 2)
    told = f"{FACTS[number][0]} " if number < len(FACTS) else ""
    message = f"{told}I was thinking about {one} again, and how they remind me of {other}. What do you make of that?"
    answer = (
        f"That is a nice thought. People who like {one} often like {other} too, perhaps because both take patience. "
        f"If you want to go further, read about the history of {one}, and compare it with what you know of {other}."
    )
    request = ModelRequest(parts=[UserPromptPart(message)])
    return ModelMessagesTypeAdapter.dump_json([request, ModelResponse(parts=[TextPart(answer)])])


async def _asked(talk: Talk, engine: Engine, model: str, question: str, right: str) -> tuple[str, bool]:
    """What the model answers with what the session's next turn sees; the history does not get it."""
    begun = await talk.begin(question)
    past = [PastTurn(entry.agent, entry.messages) for entry in map(HistoryEntry.load, begun.history)]
    agent = AgentConfig(name="A", model=model, instructions=_INSTRUCTIONS)
    turn = TurnInput(
        talk.keys.public_id(begun.part), "s", None, 1, question, agent, past, False, 0, model, summary=begun.summary
    )
    journal = _Journal()
    output = await engine.run(turn, journal, journal, RunState())
    ending = Ending(TurnStatus.CANCELLED)
    await talk.leases.commit(talk.keys, begun, ending, 1000, go_on=False, last_ok=True)
    return output.text, re.search(right, output.text, re.I) is not None


def _double(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    texts = [str(part.content) for message in messages for part in message.parts if hasattr(part, "content")]
    if "<conversation>" not in texts[0]:
        return ModelResponse(parts=[TextPart("\n".join(texts[:-1]))])
    told = [fact for fact, _, _ in FACTS if fact in texts[0]]
    return ModelResponse(parts=[TextPart(" ".join(told) or "Small talk.")])


_KINDS: Final[dict[Compact, str]] = {"auto": "with a summary", "off": "without a summary"}


def _rows(server: Server, model: str, turns: int) -> Iterator[str]:
    settings = Settings(redis_url=server.url)
    for compact, name in _KINDS.items():
        found = asyncio.run(recall(settings, model, turns, compact))
        yield f"| {name} | {found.known} of {len(FACTS)} | {found.requests} | {len(found.summary)} |"
        if model != "double":
            yield f"{name}: {found.seconds:.0f} s for summaries; the last one:\n{found.summary or 'none'}"
            yield from (f"  {'right' if right else 'WRONG'} {text[:110]!r}" for text, right in found.answers)


def main() -> None:
    """Print the table."""
    model = sys.argv[1] if len(sys.argv) > 1 else "double"
    turns = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    print(f"| {model}, {turns} turns | facts known | requests for summaries | characters of the last one |")
    print("|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder, running(Server(Path(folder))) as server:
        for row in _rows(server, model, turns):
            print(row, flush=True)


if __name__ == "__main__":
    main()
