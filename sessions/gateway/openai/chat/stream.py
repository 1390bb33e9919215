"""A chat completion in chunks, as its turn goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from sessions.errors import SessionfleetError
from sessions.gateway.narration import Asked, Ended, Said, Settled, Told, Withdrawn, typed_content
from sessions.gateway.openai.chat.responses import PAUSE, finish_reason, head, tool_call
from sessions.gateway.openai.errors import in_stream, server_error
from sessions.gateway.openai.turns import Leg
from sessions.gateway.openai.usage import chat_usage
from sessions.gateway.streams import Data
from sessions.gateway.strict_json import written
from sessions.store.turns import TurnRecord

DONE: Final = "[DONE]"
_CHANGED: Final = (
    "The worker was lost while it answered, and the answer was begun again with other words. Nothing of what was "
    "streamed is valid: repeat the request with its Idempotency-Key, or read the session."
)


@dataclass(slots=True)
class ChatStream:
    """Makes the chunks of one completion."""

    request: Request
    leg: Leg
    record: TurnRecord
    model: str
    typed: bool
    include_usage: bool
    said: bool = False
    paused: bool = False
    ended: bool = False

    async def events(self) -> AsyncGenerator[Data]:
        """The events, which have no types."""
        async with aclosing(self._data()) as pieces:
            async for piece in pieces:
                yield None, piece

    async def _data(self) -> AsyncGenerator[str]:
        yield self._chunk({"role": "assistant", "content": "", "refusal": None})
        try:
            async for item in self.leg.told():
                if isinstance(item, Withdrawn) and not item.thought and not self.typed:
                    yield written({"error": server_error(_CHANGED, "answer_changed")})
                    return
                for piece in await self._of(item):
                    yield piece
            if not self.ended:  # the turn ended before this leg: its results came too late
                for piece in await self._end(None):
                    yield piece
        except SessionfleetError as error:
            yield written({"error": in_stream(self.request, error)})
            return
        yield DONE

    async def _of(self, item: Told) -> list[str]:
        match item:
            case Said(text=text, thought=False) if not self.typed:
                return [self._text(text)]
            case Settled(thought=False):
                self.paused = self.said
                return []
            case Asked(own=own) if own:
                calls = [{"index": place, **tool_call(self.leg, call)} for place, call in enumerate(own)]
                return [self._chunk({"tool_calls": [call]}) for call in calls] + await self._end("tool_calls")
            case Ended():
                return await self._end(None)
            case _:
                return []

    async def _end(self, reason: str | None) -> list[str]:
        """The last chunks.

        Raises:
            TurnFailed: the turn ended without an answer.
        """
        self.ended = True
        if reason is None:
            await self.leg.turn.aresult()
        self.record = await self.leg.turn.arecord()
        typed = typed_content(self.record) if reason is None else None
        last = [] if typed is None else [self._text(typed)]
        last.append(self._chunk({}, reason or finish_reason(self.record)))
        if self.include_usage:
            last.append(written({**self._head(), "choices": [], "usage": chat_usage(self.record.usage)}))
        return last

    def _text(self, text: str) -> str:
        pause, self.paused, self.said = PAUSE if self.paused else "", False, True
        return self._chunk({"content": pause + text})

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self.include_usage else {}
        return written({**self._head(), "choices": [choice], **usage})

    def _head(self) -> dict[str, Any]:
        return head(self.leg, self.record, self.model, "chat.completion.chunk")
