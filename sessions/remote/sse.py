"""A parser for server-sent events (WHATWG): from chunks of bytes to messages."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerSent:
    """One message. `id` is the last id in the stream so far; `retry` is the pause before reconnecting, in ms."""

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

    def feed(self, line: str) -> ServerSent | None:
        """Process one line; an empty line completes the message, which is returned."""
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
            case _:  # a comment (an empty name), or an unknown field
                pass
        return None

    def _end(self) -> ServerSent | None:
        event, data = self.event or "message", self.data
        self.event, self.data = "", []
        return ServerSent(event, "\n".join(data), self.last_id, self.retry) if data else None


async def messages(chunks: AsyncIterator[bytes]) -> AsyncIterator[ServerSent]:
    """The messages of a stream. An incomplete one at its end is dropped, as the standard requires."""
    message = _Message()
    async for line in _lines(chunks):
        if (done := message.feed(line)) is not None:
            yield done


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of a stream, which end with CR, LF or CRLF only (`str.splitlines` also splits elsewhere)."""
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
