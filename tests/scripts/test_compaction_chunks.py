"""Chunk by chunk: a worker's part of a compaction, in this process, on a real store; the model is a function."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessions.protocol.compaction_requests import CompactHistory
from sessions.protocol.lanes import COMPACT
from sessions.store.history import HistoryEntry
from sessions.store.open_turn import OpenTurn
from sessions.store.sealing import KeyRing
from sessions.store.segments import Segments
from tests.scripts.test_scripts import settings_for
from tests.support.compacting import LaneWorker, Talk
from workers.engine import Engine, Registry


class Killed(BaseException):
    """kill -9, as far as a run can tell."""


class Worker(LaneWorker):
    """`asked` are the messages that its model got."""

    def __init__(self, talk: Talk) -> None:
        registry = Registry()
        registry.add_model("m", FunctionModel(self._model))
        super().__init__(talk, Engine(registry, default_model="m", history_tokens=1_000))
        self.asked: list[str] = []
        self.answer: Callable[[str], str] = lambda message: f"summary {len(self.asked)}"

    def _model(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        first = messages[0]
        assert isinstance(first, ModelRequest)
        self.asked.append(str(first.parts[0].content))
        return ModelResponse(parts=[TextPart(self.answer(self.asked[-1]))])


@pytest.fixture(params=["standalone", "sealed"])
async def worker(request: pytest.FixtureRequest) -> AsyncIterator[Worker]:
    changed = {"history_window": 6, "compact": "auto", "max_attempts": 99, "model": "m"}
    talk = Talk(settings_for(request).model_copy(update=changed))
    yield Worker(talk)
    await talk.turns.delete_session(talk.keys.lane(COMPACT))
    await talk.close()


def said(number: int, size: int = 0) -> bytes:
    """A turn's messages."""
    parts = [
        {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": f"question {number} {'x' * size}"}]},
        {"kind": "response", "parts": [{"part_kind": "text", "content": f"answer {number}"}]},
    ]
    return json.dumps(parts).encode()


async def chats(worker: Worker, count: int, size: int = 0) -> None:
    for number in range(count):
        await worker.talk.chat(said(number, size))


async def test_a_request_is_the_summary_so_far_and_the_next_turns(worker: Worker) -> None:
    """Each of bounded size, up to where the window begins; a later summary continues the earlier one."""
    await chats(worker, 8, size=900)
    assert await worker.all() == 2
    first, second = worker.asked
    assert ("question 0" in first, "question 1" in first, "question 2" in first) == (True, True, False)
    assert ("question 1" in second, "question 3" in second, "question 4" in second) == (False, True, False)
    assert "There is none yet." in first
    assert "summary 1" in second
    assert max(map(len, worker.asked)) < 4_000
    newest = await worker.talk.summaries.newest(worker.talk.keys)
    assert (newest.text, newest.upto) == ("summary 2", 4)
    await chats(worker, 4)
    await worker.all()
    assert "summary 2" in worker.asked[2]
    assert (await worker.talk.begin()).summary == f"summary {len(worker.asked)}"


async def test_prompts_get_a_summary_though_the_window_moves_on(worker: Worker) -> None:
    """As soon as it covers what had left the window when it was asked for; what left it since follows."""
    await chats(worker, 8, size=900)
    await worker.apply()
    await chats(worker, 4, size=900)
    await worker.apply()
    for _ in range(2):
        assert await worker.turn()
    assert (await worker.talk.begin()).summary == "summary 2"
    await worker.all()
    newest = await worker.talk.summaries.newest(worker.talk.keys)
    assert (newest.upto, newest.due, len(worker.asked)) == (8, 0, 4)


async def test_a_turn_of_any_size_makes_a_chunk(worker: Worker) -> None:
    """Its text is shortened, and the summary goes on behind it."""
    await worker.talk.chat(said(0, 500_000))
    await chats(worker, 7)
    await worker.all()
    assert max(map(len, worker.asked)) < 4_000
    assert "bytes of this message are left out here" in worker.asked[0]
    assert (await worker.talk.summaries.newest(worker.talk.keys)).upto == 4


async def test_a_worker_that_dies_pays_for_no_finished_chunk_again(worker: Worker) -> None:
    """After the model's response is journalled, and after the summary is stored but the turn has not ended."""
    await chats(worker, 8, size=900)
    await worker.apply()
    write = worker.compaction._summaries.write

    async def dies(*_: Any, **__: Any) -> bool:
        raise Killed

    worker.compaction._summaries.write = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await worker.turn()
    worker.compaction._summaries.write = write  # type: ignore[method-assign]
    assert await worker.turn(kill=True)
    while await worker.turn():
        pass
    assert len(worker.asked) == 2
    assert (await worker.talk.summaries.newest(worker.talk.keys)).text == "summary 2"


async def test_the_outbox_may_be_applied_twice(worker: Worker) -> None:
    """A worker may die between the turn's acceptance and the removal of the entry."""
    await chats(worker, 8)
    [effect] = await worker.talk.asked()
    for _ in range(2):
        await worker.compaction.submit(worker.talk.keys, CompactHistory.asked_by(effect))
    assert await worker.all() == 1
    assert len(worker.published) == 1


async def test_nothing_is_stored_of_a_turn_that_was_deleted_meanwhile(worker: Worker) -> None:
    """While the model writes. The new summary is of the turns that are left."""
    talk = worker.talk
    parts = [(await talk.chat(said(number)))[0] for number in range(8)]
    await worker.apply()
    begun = await talk.leases.acquire(worker.lane, "n", last_ok=True)
    assert isinstance(begun, OpenTurn)
    await talk.branches.delete(talk.keys, parts[1], None)
    assert await worker.turn()
    assert (await talk.summaries.newest(talk.keys)).text == ""
    assert await worker.all() == 1
    assert "question 1" not in worker.asked[-1]
    assert (await talk.summaries.newest(talk.keys)).upto == 3


async def test_turns_in_segments_are_summarised(worker: Worker) -> None:
    """They are where they always were; a deleted one leaves segment and summary."""
    talk, keyring = worker.talk, KeyRing.of(worker.talk.settings)
    entries = [HistoryEntry(f"{number:032x}", "A", 1, 2, said(number)).dump() for number in range(75)]
    await talk.client.rpush(talk.keys.history, *(keyring.seal(talk.keys.history, "", entry) for entry in entries))
    await talk.chat()
    assert await Segments(talk.scripts, keyring).pack(talk.keys)
    await worker.all()
    newest = await talk.summaries.newest(talk.keys)
    assert (newest.upto, newest.text) == (72, f"summary {len(worker.asked)}")
    assert all(any(f"question {number} " in message for message in worker.asked) for number in range(72))
    await talk.branches.delete(talk.keys, f"{3:032x}", None)
    assert (await talk.summaries.newest(talk.keys)).text == ""


async def test_a_model_with_a_small_context_gets_smaller_chunks(worker: Worker) -> None:
    """If it refuses a request as too long, half as many turns are sent, at once."""

    def strict(message: str) -> str:
        if len(message) > 1_800:
            raise ModelHTTPError(400, "m", {"error": {"message": "maximum context length is 99 tokens"}})
        return "short"

    worker.answer = strict
    await chats(worker, 8, size=600)
    await worker.all()
    assert (await worker.talk.begin()).summary == "short"


async def test_a_summary_that_is_too_long_is_cut(worker: Worker) -> None:
    """So that neither prompts nor the next request grow."""
    worker.answer = lambda message: "A sentence. " * 500
    await chats(worker, 8)
    await worker.all()
    text = (await worker.talk.begin()).summary
    assert 900 < len(text) <= 1_000
    assert text.endswith("sentence.")


async def test_a_record_that_cannot_be_read_stops_no_turn(worker: Worker) -> None:
    """The entry in the outbox is dealt with; only the summary is missing."""
    await chats(worker, 8)
    await worker.talk.client.hset(worker.talk.keys.agents, "A", "[]")
    await worker.apply()
    assert worker.published == []


async def test_the_offline_model_summarises_nothing(worker: Worker) -> None:
    """It only echoes."""
    worker.talk.settings = worker.compaction._settings = worker.talk.settings.model_copy(update={"model": None})
    await chats(worker, 8)
    assert (await worker.all(), worker.asked) == (0, [])
