"""Sessions of the OpenAI Agents SDK: `SQLiteSession` in a file, and `RedisSession` in a Redis."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from broker_config.redis_url import without_secrets
from sessions.errors import BadRequest, InvalidExport
from sessions.transfer.conversation import Conversation, LeftOut
from sessions.transfer.media import of_data_url
from sessions.transfer.records import PastTurn, Record, SessionHeader
from sessions.transfer.sqlite import chosen, readable

TABLES: Final = {"agent_sessions", "agent_messages"}
_PREFIX: Final = "agents:session"
_PAGE: Final = 500
_SECONDS: Final = 10.0
_REDIS_URL: Final = re.compile(r"(rediss?|unix)://", re.I)

Item = tuple[str, int, str]
"""A place for errors, a time in milliseconds, and the item's JSON."""


def is_redis(source: str) -> bool:
    """Whether this is the address of a Redis."""
    return _REDIS_URL.match(source) is not None


# --- where sessions are -----------------------------------------------------------------------------------


def read_sqlite(path: Path, wanted: str | None, left_out: LeftOut, agent: str) -> Iterator[Record]:
    """One session of a `SQLiteSession` file as records.

    Raises:
        InvalidExport: the file or an item is damaged. BadRequest: it is not clear which session is meant.
    """
    with readable(path) as database:
        found = [row[0] for row in database.execute("SELECT session_id FROM agent_sessions ORDER BY session_id")]
        session_id = chosen(found, wanted, path.name)
        rows = database.execute(
            "SELECT id, message_data, created_at FROM agent_messages WHERE session_id = ? ORDER BY id", (session_id,)
        )
        items = ((f"{path.name}, message {row[0]}", _time(row[2]), row[1]) for row in rows)
        yield from _records(session_id, items, left_out, agent)


def read_redis(url: str, wanted: str | None, left_out: LeftOut, agent: str) -> Iterator[Record]:
    """One session of a `RedisSession` as records.

    Raises:
        BadRequest: the Redis does not answer, or it does not have the session.
        InvalidExport: an item is damaged.
    """
    import redis  # noqa: PLC0415 - only for this format

    if wanted is None:
        raise BadRequest("which session of this Redis? pass its id as from_session= (`--from-session`)")
    key = f"{_PREFIX}:{wanted}:messages"
    try:
        with closing(
            redis.Redis.from_url(url, decode_responses=True, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
        ) as client:
            if not client.exists(key):
                raise BadRequest(f"{without_secrets(url)} has no session {wanted!r} of the OpenAI Agents SDK ({key!r})")
            yield from _records(wanted, _redis_items(client, key), left_out, agent)
    except redis.RedisError as error:
        raise BadRequest(f"{without_secrets(url)} cannot be read: {error}") from error


def read_items(
    session_id: str, items: Sequence[dict[str, Any]], at_ms: int, left_out: LeftOut, agent: str
) -> Iterator[Record]:
    """A session as records, from its items. They have no times: `at_ms` is that of all.

    Raises:
        InvalidExport: one of them cannot be read.
    """
    dumped = ((f"item {number}", at_ms, json.dumps(item)) for number, item in enumerate(items))
    yield from _records(session_id, dumped, left_out, agent)


def _redis_items(client: Any, key: str) -> Iterator[Item]:
    at_ms = round(float(client.hget(key.removesuffix(":messages"), "created_at") or 0) * 1000)
    start = 0
    while page := client.lrange(key, start, start + _PAGE - 1):
        for number, data in enumerate(page, start):
            yield f"{key}, item {number}", at_ms, data
        start += len(page)


def _time(created_at: Any) -> int:
    try:
        return round(datetime.fromisoformat(created_at).replace(tzinfo=UTC).timestamp() * 1000)
    except (TypeError, ValueError):
        return 0


# --- items ------------------------------------------------------------------------------------------------


def _records(session_id: str, items: Iterator[Item], left_out: LeftOut, agent: str) -> Iterator[Record]:
    yield SessionHeader(session_id=session_id)
    conversation = Conversation(f"openai\0{session_id}", left_out, agent)
    for place, at_ms, data in items:
        try:
            item = json.loads(data)
            yield from read_item(conversation, item, at_ms, left_out)
        except (KeyError, TypeError, ValueError, AttributeError, sqlite3.Error) as error:
            raise InvalidExport(f"{place}: it is not an item of the OpenAI Agents SDK: {error!r}") from None
    yield from conversation.end()


def read_item(conversation: Conversation, item: dict[str, Any], at_ms: int, left_out: LeftOut) -> Iterator[PastTurn]:
    """Take an item into a conversation; yields the turn before it, if that has ended.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not an item.
    """
    match item.get("type", "message"):
        case "message":
            yield from _read_message(conversation, item, at_ms, left_out)
        case "function_call":
            conversation.call(item["name"], item["call_id"], item["arguments"], at_ms)
        case "custom_tool_call":
            conversation.call(item["name"], item["call_id"], {"input": item["input"]}, at_ms)
        case "function_call_output" | "custom_tool_call_output":
            conversation.result(item["call_id"], _plain(_content(item["output"], left_out)), at_ms)
        case "reasoning":
            conversation.thought("\n\n".join(part["text"] for part in item.get("summary") or ()), at_ms)
            if item.get("encrypted_content"):
                left_out.add("encrypted reasoning, which only its provider can read")
        case kind:
            left_out.add(f"items of the type {kind!r}, which belong to tools that OpenAI runs")


def _read_message(
    conversation: Conversation, item: dict[str, Any], at_ms: int, left_out: LeftOut
) -> Iterator[PastTurn]:
    content = _content(item["content"], left_out)
    match item["role"]:
        case "user":
            yield from conversation.user(content, at_ms)
        case "assistant":
            conversation.assistant(_plain(content), at_ms)
        case "system" | "developer":
            yield from conversation.system(_plain(content), at_ms)
        case role:
            left_out.add(f"messages of the role {role!r}")


def _content(content: Any, left_out: LeftOut) -> str | list[Any]:
    """A text, or a list of texts and media."""
    if isinstance(content, str):
        return content
    parts = [found for part in content if (found := _part(part, left_out)) is not None]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _part(part: dict[str, Any], left_out: LeftOut) -> str | dict[str, Any] | None:
    match part["type"]:
        case "input_text" | "output_text" | "text":
            return str(part["text"])
        case "refusal":
            return str(part["refusal"])
        case "input_image" if inline := of_data_url(str(part.get("image_url") or "")):
            return inline
        case "input_file" if inline := of_data_url(str(part.get("file_data") or "")):
            return {**inline, "identifier": part.get("filename")}
        case "input_image" if str(part.get("image_url") or "").startswith(("http://", "https://")):
            return {"kind": "image-url", "url": part["image_url"]}
        case "input_file" if part.get("file_url"):
            return {"kind": "document-url", "url": part["file_url"]}
        case kind:
            left_out.add(f"the bytes of media in messages ({kind})")
            return f"[{kind}, which was not imported]"


def _plain(content: str | list[Any]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part if isinstance(part, str) else part["url"] for part in content)
