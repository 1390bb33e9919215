"""Server-sent events as the WHATWG reads them, in whatever pieces the bytes come."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.remote.sse import ServerSent, messages


async def read(raw: bytes, size: int = 1) -> list[ServerSent]:
    """The messages of a stream that arrives in pieces of this many bytes."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(raw), size):
            yield raw[start : start + size]

    return [message async for message in messages(pieces())]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
async def test_a_message_has_type_data_and_id(ending: str, size: int) -> None:
    """All line endings, cut anywhere; several `data` lines are one text; comments are nothing."""
    lines = ["\ufeffretry: 250", ": hello", "", "id: 4-1", "event: text", "data: ä", "data:b", "data", "", ": ping", ""]
    found = await read(ending.join(lines).encode() + ending.encode(), size)
    assert found == [ServerSent("text", "ä\nb\n", "4-1", 250)]


async def test_the_last_id_stays_until_another_comes() -> None:
    """Also for messages without data, which are none; an id with NUL is ignored."""
    raw = b"id: 1\n\ndata: a\n\nid: 2\ndata: b\n\nid: x\0\ndata: c\n\nid\ndata: d\n\n"
    assert [(m.data, m.id) for m in await read(raw)] == [("a", "1"), ("b", "2"), ("c", "2"), ("d", "")]


async def test_what_is_cut_short_is_dropped() -> None:
    """Its id has not been seen: the next connection brings it again."""
    assert await read(b"id: 1\ndata: a\n\nid: 2\ndata: b\n") == [ServerSent("message", "a", "1", None)]


async def test_other_separators_do_not_end_a_line() -> None:
    """`str.splitlines` would split at these characters."""
    text = "a\u2028b\x0bc\x85d\x1ce"
    assert [m.data for m in await read(f"data: {text}\n\n".encode())] == [text]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1), st.integers(1, 9))
async def test_any_text_comes_through_any_pieces(texts: list[str], size: int) -> None:
    """However the bytes are split, the events read are those that were written."""
    raw = "".join(f"data: {text}\n" for text in texts).encode() + b"\n"
    assert [m.data for m in await read(raw, size)] == ["\n".join(texts)]
