"""An event as it travels, whatever its text has in it."""

from __future__ import annotations

import json

import pytest
from sse_starlette import ServerSentEvent

from sessions.gateway.streams import _message
from sessions.protocol.event import Event, EventType


@pytest.mark.parametrize(
    "text", ["a\r\nid: 9-9\n\nb", "a\x85b\u2028c\u2029d\x0b\x0c\x1ce", "\0\ufeff", "\ud83d", "ü 😀"], ids=ascii
)
def test_a_text_cannot_end_its_line(text: str) -> None:
    """Also for readers that know more line ends than the standard: three lines and an empty one, always."""
    sent = _message(Event("7-1", EventType.TEXT_DELTA, {"text": text}))
    assert isinstance(sent, ServerSentEvent)
    first, second, data, empty = sent.encode().decode().splitlines()
    assert (first, second, empty) == ("id: 7-1", "event: text_delta", "")
    assert json.loads(data.removeprefix("data: ")) == {"text": text}
