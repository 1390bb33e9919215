"""Why a model stopped: an answer that was cut says so, and half an answer is not taken for a complete one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic_ai.models import override_allow_model_requests

from workers.engine import TransientModelError

from .doubles import Rig


def _chunk(text: str | None, reason: str | None) -> str:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


@asynccontextmanager
async def provider(monkeypatch: pytest.MonkeyPatch, reason: str | None) -> AsyncIterator[None]:
    """Streams half an answer, perhaps a finish reason, and ends cleanly."""
    body = _chunk("Half an ", None) + _chunk("answer", None)
    if reason is not None:
        body += _chunk(None, reason)
    raw = (body + "data: [DONE]\n\n").encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ncontent-length: {len(raw)}"
        writer.write(head.encode() + b"\r\n\r\n" + raw)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        with override_allow_model_requests(True):
            yield


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_why_the_model_stopped_is_part_of_the_result(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """The answer is kept as it is; the application that shows it can say that it was cut."""
    async with provider(monkeypatch, reason):
        output = await rig.run(rig.turn(model="openai-chat:m", stream=True))
    assert (output.text, output.finish_reason) == ("Half an answer", reason)


async def test_a_stream_that_ends_without_a_reason_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handled like a stream that breaks: nothing is recorded."""
    async with provider(monkeypatch, None):
        with pytest.raises(TransientModelError, match=r"finish.reason"):
            await rig.run(rig.turn(model="openai-chat:m", stream=True))
    assert not [key for key in rig.store if key.startswith("model:")]
