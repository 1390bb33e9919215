"""Messages in pydantic-ai's JSON, as `ModelMessagesTypeAdapter.dump_json` and `all_messages_json()` write them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from sessions.transfer.conversation import LeftOut
from sessions.transfer.messages import Message, at_of, check_messages, count_messages, is_prompt
from sessions.transfer.records import PastTurn, Record, SessionHeader


def is_messages(value: object) -> bool:
    """Whether this JSON looks like pydantic-ai's messages."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "kind" in value[0]


def read_messages(messages: list[Any], name: str, left_out: LeftOut, agent: str) -> Iterator[Record]:
    """The messages as records: a turn for each of the user's prompts.

    Raises:
        InvalidExport: they are not messages of pydantic-ai; the message names the place.
    """
    check_messages(messages, name)
    yield SessionHeader()
    identity = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()
    begins = [0, *(number for number in range(1, len(messages)) if _begins_turn(messages[number])), len(messages)]
    for number, (start, stop) in enumerate(pairwise(begins)):
        if kept := _paired(messages[start:stop], left_out):
            yield _turn(f"{identity}\0{number}", agent, kept)


def _begins_turn(message: Message) -> bool:
    # A prompt next to a tool's result is a message that joined a running turn.
    returned = any(part["part_kind"] in ("tool-return", "retry-prompt") for part in message["parts"])
    return is_prompt(message) and not returned


def _paired(turn: list[Message], left_out: LeftOut) -> list[Message]:
    """The turn without calls that have no result, and results that have no call."""
    parts_of = [part for message in turn for part in message["parts"]]
    calls = {part.get("tool_call_id") for part in parts_of if part["part_kind"] == "tool-call"}
    answers = {part.get("tool_call_id") for part in parts_of if part["part_kind"] in ("tool-return", "retry-prompt")}
    kept = []
    for message in turn:
        parts = []
        for part in message["parts"]:
            if part["part_kind"] == "tool-call" and part.get("tool_call_id") not in answers:
                left_out.add(f"a call of a tool that has no result ({part['tool_name']})")
            elif part["part_kind"] == "tool-return" and part.get("tool_call_id") not in calls:
                left_out.add("a tool's result without its call")
            else:
                parts.append(part)
        if parts:
            kept.append({**message, "parts": parts})
    return kept


def _turn(identity: str, agent: str, messages: list[Message]) -> PastTurn:
    complete = messages[-1]["kind"] == "response"
    first = messages[0]
    of_part = next((part["timestamp"] for part in first["parts"] if part.get("timestamp")), None)
    return PastTurn(
        turn=hashlib.sha256(identity.encode()).hexdigest()[:32],
        agent=agent,
        at_ms=at_of(first.get("timestamp") or of_part, 0),
        count=count_messages(messages),
        incomplete="" if complete else "failed",
        messages=messages,
    )
