"""The bytes that the store keeps: of a turn that has ended, of its entry in the history, and of long sessions.

python -m benchmarks.bytes_kept [messages ...]

"Before" is what was kept for the same turns before entries were lean, ended turns were packed and old entries were put
into segments: it is written here as the scripts of that time left it. Bytes are `MEMORY USAGE` of all keys. CPU is
`process_time` of this process, and what the server reports of its main thread.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from benchmarks.rig import ROOT, Rig
from sessions.protocol.event import EventType
from sessions.protocol.turn import TurnStatus, Usage
from sessions.store.history import HistoryEntry
from sessions.store.keys import new_turn_part
from sessions.store.leases import Ending
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.segments import Segments
from tests.support.conversation import Conversation
from workers.engine.stored_messages import dump_messages

_LENGTHS: Final = (10_000, 100_000)
_CHARACTERS: Final = 95
_TURNS: Final = 300
_WINDOW: Final = 100
_PAGE: Final = 50
_ANSWER: Final = "Hello, I am the answer of a model that takes no time at all."
# The fields of a record that were kept after the turn's end, besides those that still are.
_FIELDS_BEFORE: Final = {
    "waiters": "0" * 32,
    "idem_ttl": "86400000",
    "max_attempts": "3",
    "blocks": "1",
    "agent": '{"name":"Assistant","instructions":"Be kind.","tools":[],"model":null,"output_schema":null,'
    '"output_name":null,"hooks":[],"registered":false,"delegates":[],"recalls":{"memory":null,"extract":null,'
    '"knowledge":null}}',
    "request": '{"v":1,"message":"Hello there","agent":"Assistant","stream":false,"team":null,"recalls":{"memory":null,'
    '"extract":null,"knowledge":null},"home":null,"operation":null,"titles":false,"extraction":null,"parent":null,'
    '"depth":0}',
    "idem": "",
    "result_ttl": "604800000",
    "seq": "2",
    "valid": "2-2",
    "error": "",
    "finish": "",
    "approval_ms": "86400000",
    "not_before": "0",
    "crashes": "0",
    "digest": "5" * 64,
    "usage": '{"requests":1,"input_tokens":20,"cache_read_tokens":0,"cache_write_tokens":0,"output_tokens":12,'
    '"tool_calls":0,"unpriced_requests":1}',
}


@dataclass
class Said:
    """A turn as the model's library has it, and its two forms in the history."""

    messages: list[ModelMessage]
    entry: HistoryEntry

    @classmethod
    def of(cls, session_id: str, question: str, answer: str, at_ms: int) -> Said:
        part = new_turn_part()
        turn_id, at = f"{session_id}~{part}", datetime.fromtimestamp(at_ms / 1000, UTC)
        ids = {"run_id": turn_id, "conversation_id": session_id}
        messages: list[ModelMessage] = [
            ModelRequest([UserPromptPart(question, timestamp=at)], timestamp=at, **ids),
            ModelResponse(
                [TextPart(answer)],
                usage=RequestUsage(input_tokens=412, output_tokens=31),
                model_name="gpt-5",
                provider_name="openai",
                timestamp=at,
                finish_reason="stop",
                **ids,
            ),
        ]
        lean = dump_messages(messages, turn_id=turn_id, session_id=session_id)
        return cls(messages, HistoryEntry(part, "Assistant", at_ms, 2, lean))

    def before(self) -> bytes:
        """The entry as it was written before."""
        e = self.entry
        full = ModelMessagesTypeAdapter.dump_json(self.messages)
        return HistoryEntry(e.turn, e.agent, e.at_ms, e.count, full).dump()


def main(lengths: tuple[int, ...]) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        try:
            print(rig.server_name)
            asyncio.run(_ended_turns(rig))
            for length in lengths:
                asyncio.run(_session(rig, length))
        finally:
            rig.close()


# --- ended turns ------------------------------------------------------------------------------------------


async def _ended_turns(rig: Rig) -> None:
    talk = Conversation(rig.settings)
    turn_ids = [await _turn(talk) for _ in range(_TURNS)]
    part = turn_ids[-1]
    record, events = talk.keys.turn(part), talk.keys.events(part)
    now = [rig.redis.memory_usage(key, samples=0) for key in (record, events)]
    old = f"{record}:old"
    rig.redis.hset(old, mapping={**rig.redis.hgetall(record), **_FIELDS_BEFORE})
    for eid, fields in rig.redis.xrange(events):
        rig.redis.xadd(f"{events}:old", fields, id=eid)
    before = [rig.redis.memory_usage(key, samples=0) for key in (old, f"{events}:old")]
    said = Said.of(talk.keys.session_id, "Hello there", _ANSWER, 1_796_000_000_000)
    entries = len(said.before()), len(said.entry.dump())
    _line("", "before", "now")
    _line("record of an ended turn", before[0], now[0])
    _line("events of an ended turn", before[1], now[1])
    _line("... together, for SESSIONFLEET_RESULT_TTL", sum(before), sum(now))
    _line("entry in the history, for the session's life", *entries)
    for days in (7, 1, 1 / 24):
        kept = [1e6 * days * sum(each) / 1e9 for each in (before, now)]
        _line(f"1,000,000 turns a day, kept for {days:.3g} days, GB", *(f"{gb:.2f}" for gb in kept))
    _line("... and their entries, GB for each day", *(f"{1e6 * size / 1e9:.2f}" for size in entries))
    await talk.close()
    await _server_time(rig)


async def _turn(talk: Conversation) -> str:
    turn = await talk.begin("Hello there")
    event = (EventType.TEXT, b'{"text": "%s"}' % _ANSWER.encode())
    await talk.leases.record(talk.keys, turn, "", b"", 2, [event]).done()
    text = f'{{"text": "{_ANSWER}", "output": "{_ANSWER}", "model": "instant"}}'.encode()
    usage = Usage(requests=1, input_tokens=20, output_tokens=12, unpriced_requests=1).model_dump_json().encode()
    said = Said.of(talk.keys.session_id, "Hello there", _ANSWER, 1_796_000_000_000)
    entry = HistoryEntry(turn.part, "Assistant", said.entry.at_ms, 2, said.entry.messages).dump()
    ending = Ending(TurnStatus.SUCCEEDED, text, usage=usage, history_entry=entry, messages=2)
    await talk.leases.commit(talk.keys, turn, ending, 3, go_on=False, last_ok=True)
    return turn.part


async def _server_time(rig: Rig) -> None:
    """The server's time for a turn's scripts, and the part of it for writing the ended turn anew."""
    talk = Conversation(rig.settings)
    rig.redis.config_resetstat()
    for _ in range(_TURNS):
        await _turn(talk)
    spent = {name: each["usec"] / _TURNS for name, each in rig.redis.info("commandstats").items()}
    _line("server, microseconds for the scripts of a turn", "", f"{spent['cmdstat_evalsha']:.0f}")
    anew = sum(spent[f"cmdstat_{name}"] for name in ("memory|usage", "dump", "restore"))
    _line("... of which for MEMORY USAGE, DUMP and RESTORE", "", f"{anew:.0f}")
    await talk.close()


def _server_cpu(rig: Rig) -> float:
    cpu = rig.redis.info("cpu")
    return float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])


# --- long sessions ----------------------------------------------------------------------------------------


async def _session(rig: Rig, messages: int) -> None:
    talk, said = Conversation(rig.settings), random.Random(7)
    keys, turns, text = talk.keys, messages // 2, _texts()
    pipe = rig.redis.pipeline(transaction=False)
    written = 0
    for number in range(turns):
        question, answer = next(text), next(text)
        written += len(question.encode()) + len(answer.encode())
        turn = Said.of(keys.session_id, question, answer, 1_796_000_000_000 + number * 60_000 + said.randrange(50_000))
        pipe.rpush(f"{keys.history}:old", turn.before())
        pipe.rpush(keys.history, turn.entry.dump())
        if number % 1000 == 999:
            pipe.execute()
    pipe.hset(keys.meta, mapping={"created": 1, "window_at": max(0, turns - _WINDOW)})
    pipe.execute()
    before = rig.redis.memory_usage(f"{keys.history}:old", samples=0)
    lean = rig.redis.memory_usage(keys.history, samples=0)
    middle = turns // 2
    page = [await _cpu(talk, middle)]
    segments = Segments(ScriptRunner(talk.client), KeyRing.of(talk.settings))
    server = _server_cpu(rig)
    began, done = time.process_time(), 0
    while wrote := await segments.pack(keys):
        done += wrote
    cpu = time.process_time() - began
    server = _server_cpu(rig) - server
    now = sum(rig.redis.memory_usage(key, samples=0) or 0 for key in (keys.history, keys.segments, keys.meta))
    page.append(await _cpu(talk, middle))
    print()
    _line(f"{messages:,} messages of {_CHARACTERS} characters: {written:,} bytes", "before", "lean", "segments")
    _line("bytes of the history", before, lean, now)
    _line("... times the text", *(f"{size / written:.2f}" for size in (before, lean, now)))
    _line("segments; entries outside", "", "", f"{done}; {rig.redis.llen(keys.history)}")
    _line("packing, microseconds of the worker's CPU for each turn", "", "", f"{cpu / turns * 1e6:.0f}")
    _line("... of the server's CPU for each turn", "", "", f"{server / turns * 1e6:.1f}")
    _line(f"reading {_PAGE} turns in the middle, ms of CPU", "", *(f"{each:.2f}" for each in page))
    rig.redis.delete(f"{keys.history}:old")
    await talk.close()


async def _cpu(talk: Conversation, at: int) -> float:
    """Milliseconds of this process's CPU for a page of the history."""
    times = 20
    began = time.process_time()
    for _ in range(times):
        await talk.branches.entries(talk.keys, None, at, at + _PAGE - 1)
    return (time.process_time() - began) / times * 1000


def _texts() -> Iterator[str]:
    """English texts of equal length, from this repository's documentation."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    prose = re.sub(r"\s+", " ", " ".join(page.read_text("utf-8") for page in pages))
    at = 0
    while True:
        if at + _CHARACTERS > len(prose):
            at = (at * 31) % _CHARACTERS
        yield prose[at : at + _CHARACTERS]
        at += _CHARACTERS


def _line(what: str, *figures: Any) -> None:
    shown = (f"{figure:,}" if isinstance(figure, int) else str(figure) for figure in figures)
    print(f"{what:<62}" + "".join(f"{each:>14}" for each in shown))


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or _LENGTHS)
