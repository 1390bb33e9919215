"""Server-sent events by the WHATWG standard: bytes in any pieces become messages."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerSent:
    """One message. `id` is the last one that the stream named; `retry` the pause before reconnecting (ms)."""

    event: str
    data: str
    id: str
    retry: int | None


@dataclass(slots=True)
class _Message:
    last_id: str = ""
    retry: int | None = None
    event: str = ""
    data: list[str] = field(default_factory=list)

    def take(self, line: str) -> ServerSent | None:
        """A line of the stream; an empty one ends the message."""
        if not line:
            return self._end()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self.event = value
            case "data":
                self.data.append(value)
            case "id" if "\0" not in value:
                self.last_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value)
            case _:  # a comment (the name is empty), or an unknown field
                pass
        return None

    def _end(self) -> ServerSent | None:
        event, data = self.event or "message", self.data
        self.event, self.data = "", []
        return ServerSent(event, "\n".join(data), self.last_id, self.retry) if data else None


async def messages(chunks: AsyncIterator[bytes]) -> AsyncIterator[ServerSent]:
    """The messages of a stream. One that is truncated by the end is dropped, as the standard says."""
    message = _Message()
    async for line in _lines(chunks):
        if (done := message.take(line)) is not None:
            yield done


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Lines end with CR, LF or both; nothing else ends one (`str.splitlines` knows more)."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    rest, begun, half_ending = "", False, False
    async for chunk in chunks:
        text = decode(chunk)
        if not text:
            continue
        if not begun:
            text, begun = text.removeprefix("\ufeff"), True
        if half_ending:
            text = text.removeprefix("\n")
        half_ending = text.endswith("\r")
        *lines, rest = (rest + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        for line in lines:
            yield line
