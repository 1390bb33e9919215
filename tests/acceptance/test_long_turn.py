"""kill -9 late in a long turn: it continues where it was, and its journal has each step once."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sessions import Session
from sessions.store.keys import SessionKeys, split_turn_id
from tests.support.conversation import Conversation
from tests.support.fleet import Fleet

RESULT = 5_000
LIMIT = 60_000
"""SESSIONFLEET_RESULT_LIMIT_BYTES, of a result, a response and an answer: less than all steps of the turn have."""


@dataclass(frozen=True)
class Long:
    """A turn with so many tool calls, whose worker is killed after some of them; `past` are turns before it."""

    calls: int
    killed_after: int
    past: int = 0
    stream: bool = False
    encrypted: bool = False


SHORT = Long(calls=30, killed_after=27, stream=True)
FULL = [Long(100, 90, past=100), Long(100, 90, past=100, stream=True, encrypted=True)]
"""As long as in docs/performance.md: only in `make chaos`."""


@pytest.mark.parametrize("long", [SHORT, *(FULL if "SF_CHAOS_SECONDS" in os.environ else [])], ids=str)
def test_a_long_turn_continues_after_kill_9_and_repeats_nothing(new_fleet: Callable[..., Fleet], long: Long) -> None:
    """No model call, no tool call, and no event a second time; each step's record is about as large as the first."""
    keys = {"SESSIONFLEET_ENCRYPTION_KEYS": f"k:{base64.b64encode(bytes(32)).decode()}"} if long.encrypted else {}
    window = {"SESSIONFLEET_HISTORY_WINDOW_BYTES": str(2**24), "SESSIONFLEET_HISTORY_TOKENS": "1000000"}
    fleet = new_fleet(SESSIONFLEET_LEASE="2", SESSIONFLEET_RESULT_LIMIT_BYTES=str(LIMIT), **window, **keys)
    fleet.start("first")
    fleet.start("second")
    fleet.ready()
    session = fleet.session(asyncio.run(_past(fleet, long.past)))
    lines = [f'CALL read_page({{"number": {n}, "size": {RESULT}}})' for n in range(long.calls)]
    message = "\n".join([*lines, f"HANG {long.killed_after} 120", "SAY read"])
    turn = session.Agent("A", tools=["read_page"]).submit(message, stream=long.stream, timeout=300)
    hung = fleet.noted("hung", timeout=120)
    journal = _journal(fleet, session, turn.id)
    fleet.worker_of_pid(hung[0]["pid"]).kill()

    assert turn.result(timeout=120) == "read"
    assert (turn.record().attempt, turn.record().crashes) == (2, 1)
    assert Counter(line["step"] for line in fleet.ledger("model")) == Counter(range(long.calls + 1))
    assert Counter(line["number"] for line in fleet.ledger("read_page")) == Counter(range(long.calls))
    types = Counter(event.type for event in turn.events())
    assert (types["tool_call"], types["tool_result"], types["attempt_reset"]) == (long.calls, long.calls, 1)
    _check_sizes(journal, long)
    kept = [message.text for message in session.history(1, order="newest") if message.role == "tool"]
    assert [len(text) for text in kept] == long.calls * [RESULT]
    assert sum(map(len, kept)) > LIMIT


async def _past(fleet: Fleet, turns: int) -> str:
    """A new session with so many turns of 8,000 characters; returns its id."""
    talk = Conversation(fleet.settings)
    prompt = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "p" * 2_000}]}
    answer = {"kind": "response", "parts": [{"part_kind": "text", "content": "<a> naïve " * 600}]}
    for _ in range(turns):
        await talk.chat(json.dumps([prompt, answer]).encode())
    await talk.client.aclose()
    return talk.keys.session_id


def _journal(fleet: Fleet, session: Session, turn_id: str) -> dict[str, int]:
    """The sizes of the steps in a turn's journal, as they are stored."""
    keys = SessionKeys.of(fleet.settings.tenant, session.session_id, fleet.settings.partitions)
    with fleet.server.client() as client:
        return {key.decode(): len(raw) for key, raw in client.hgetall(keys.journal(split_turn_id(turn_id)[1])).items()}


def _check_sizes(journal: dict[str, int], long: Long) -> None:
    """The steps before the kill are there, and none of them has more than its own response or result."""
    responses = [journal[f"model:{n}"] for n in range(1, long.killed_after + 1)]
    results = [journal[f"tool:{n}:call{n}:0"] for n in range(1, long.killed_after + 1)]
    assert max(responses) < 1_000
    assert RESULT < max(results) < RESULT + 500
    assert sum(journal.values()) < long.killed_after * (RESULT + 1_500)
