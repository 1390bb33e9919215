"""The chunks of a chat completion, where a worker was lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

from starlette.requests import Request

from sessions.gateway.narration import Said, Settled, Told, Withdrawn
from sessions.gateway.openai.chat.stream import ChatStream
from sessions.gateway.openai.turns import Leg
from sessions.protocol.turn import TurnStatus
from tests.unit.gateway.test_openai_responses import record


class _Turn:
    id = f"s~{'0' * 32}"


class _Leg:
    def __init__(self, *items: Told) -> None:
        self.turn, self.number, self._items = _Turn(), 0, items

    async def told(self) -> AsyncIterator[Told]:
        for item in self._items:
            yield item


async def chunks(*items: Told) -> list[Any]:
    request = Request({"type": "http", "path": "/v1/chat/completions", "headers": []})
    leg = cast(Leg, _Leg(*items))
    stream = ChatStream(request, leg, record(TurnStatus.RUNNING), "assistant", typed=False, include_usage=False)
    return [json.loads(data) async for _, data in stream.events()]


async def test_a_text_that_changed_is_an_error() -> None:
    """Chunks cannot be taken back, and the new text behind the old one would be read as one."""
    *said, last = await chunks(Said("one t"), Withdrawn(), Said("one three"), Settled())
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in said) == "one t"
    assert last["error"]["code"] == "answer_changed"
    assert "Idempotency-Key" in last["error"]["message"]
