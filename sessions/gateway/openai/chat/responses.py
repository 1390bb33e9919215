"""A chat completion, as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from sessions.gateway.narration import (
    Asked,
    Called,
    Ended,
    Said,
    Settled,
    Told,
    Withdrawn,
    arguments_text,
    typed_content,
)
from sessions.gateway.openai.ids import completion_id
from sessions.gateway.openai.turns import Leg
from sessions.gateway.openai.usage import chat_usage
from sessions.store.turns import TurnRecord

PAUSE: Final = "\n\n"
"""Between two texts of a turn, such as one before and one after the agent called a tool of its own."""
_REASONS: Final = ("stop", "length", "content_filter")


@dataclass(slots=True)
class Answer:
    """What a leg said, and the calls with which it ended."""

    texts: list[str] = field(default_factory=lambda: [""])
    calls: tuple[Called, ...] = ()

    @property
    def content(self) -> str | None:
        """The texts as one; None if nothing was said."""
        return PAUSE.join(text for text in self.texts if text) or None

    def add(self, item: Told) -> None:
        """Take what is told."""
        match item:
            case Said(text=text, thought=False):
                self.texts[-1] += text
            case Withdrawn(thought=False):
                self.texts[-1] = ""
            case Settled(thought=False):
                self.texts.append("")
            case Asked(own=own) if own:
                self.calls = own

    @classmethod
    async def of(cls, told: AsyncIterator[Told]) -> Answer:
        """The whole answer."""
        answer = cls()
        async for item in told:
            answer.add(item)
        return answer


def finish_reason(record: TurnRecord) -> str:
    """Why the model stopped, in OpenAI's words."""
    return record.finish_reason if record.finish_reason in _REASONS else "stop"


def head(leg: Leg, record: TurnRecord, model: str, kind: str) -> dict[str, Any]:
    """What a completion and each of its chunks begin with."""
    return {
        "id": completion_id(leg.turn.id, leg.number),
        "object": kind,
        "created": record.accepted_ms // 1000,
        "model": model,
        "service_tier": "default",
    }


def tool_call(leg: Leg, call: Called) -> dict[str, Any]:
    """A call of one of the client's tools."""
    function = {"name": call.tool, "arguments": arguments_text(call.args)}
    return {"id": leg.call_id(call.call_id), "type": "function", "function": function}


def completion(leg: Leg, record: TurnRecord, answer: Answer, model: str) -> dict[str, Any]:
    """The completion that a leg came to."""
    typed = None if answer.calls else typed_content(record)
    content = answer.content if typed is None else typed
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    if answer.calls:
        message["tool_calls"] = [tool_call(leg, call) for call in answer.calls]
    reason = "tool_calls" if answer.calls else finish_reason(record)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        **head(leg, record, model, "chat.completion"),
        "choices": [choice],
        "usage": chat_usage(record.usage),
    }


def ended(item: Told) -> bool:
    """Whether a leg ends with this."""
    return isinstance(item, Ended) or (isinstance(item, Asked) and bool(item.own))
