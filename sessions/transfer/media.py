"""Files in messages: their bytes are taken out of the history, which only refers to the files of its session."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from sessions.protocol.message import FILE_SCHEME, kind_of
from sessions.transfer.conversation import LeftOut
from sessions.transfer.records import FilePiece, FileRecord, PastTurn, Record

_PIECE_BYTES: Final = 256 * 1024
_DATA_URL: Final = re.compile(r"data:(?P<type>[^;,]+)[^,]*;base64,(?P<data>.*)\Z", re.S)
_REFERENCE: Final = re.compile(re.escape(FILE_SCHEME) + r"([0-9a-f]{64})")
_WITH_MEDIA: Final = ("user-prompt", "tool-return")


def binary(data: str, media_type: str) -> dict[str, Any]:
    """A file in a message, in base64, as pydantic-ai writes it."""
    return {"kind": "binary", "data": data, "media_type": media_type}


def of_data_url(url: str) -> dict[str, Any] | None:
    """The file in a `data:` URL; None for any other URL."""
    found = _DATA_URL.match(url)
    return None if found is None else binary(found["data"], found["type"])


def with_files(records: Iterable[Record], left_out: LeftOut) -> Iterator[Record]:
    """The records, with the files in messages as records of their own in front of the turn that has them."""
    known: set[str] = set()
    for record in records:
        if not isinstance(record, PastTurn):
            yield record
            continue
        files: list[Record] = []
        messages = [_without_bytes(message, record.at_ms, files, known, left_out) for message in record.messages]
        yield from files
        yield record.model_copy(update={"messages": messages})


def _without_bytes(
    message: dict[str, Any], at_ms: int, files: list[Record], known: set[str], left_out: LeftOut
) -> dict[str, Any]:
    def replaced(value: Any) -> Any:
        if isinstance(value, list):
            return [replaced(item) for item in value]
        if isinstance(value, dict) and value.get("kind") == "binary" and isinstance(value.get("data"), str):
            return _stored(value, at_ms, files, known, left_out)
        return value

    parts = [
        {**part, "content": replaced(part["content"])} if part["part_kind"] in _WITH_MEDIA else part
        for part in message["parts"]
    ]
    return {**message, "parts": parts}


def _stored(item: dict[str, Any], at_ms: int, files: list[Record], known: set[str], left_out: LeftOut) -> Any:
    media_type = str(item.get("media_type") or "application/octet-stream")
    try:
        # pydantic-ai writes the alphabet of URLs.
        content = base64.b64decode(item["data"].replace("-", "+").replace("_", "/") + "===", validate=False)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        left_out.add(f"files in messages whose bytes cannot be read ({media_type})")
        return f"[{media_type}, which was not imported]"
    file_id = hashlib.sha256(content).hexdigest()
    name = str(item.get("identifier") or f"{file_id[:8]}.{media_type.rpartition('/')[2]}")
    if file_id not in known:
        known.add(file_id)
        files.append(FileRecord(id=file_id, name=name, media_type=media_type, size=len(content), added_ms=at_ms))
        pieces = (content[start : start + _PIECE_BYTES] for start in range(0, len(content), _PIECE_BYTES))
        files.extend(map(FilePiece.of, pieces))
    return {
        "kind": f"{kind_of(media_type)}-url",
        "url": f"{FILE_SCHEME}{file_id}",
        "media_type": media_type,
        "vendor_metadata": {"name": name, "size": len(content)},
    }


def with_ids(messages: bytes, new_id: Callable[[str], str]) -> bytes:
    """Messages as JSON, with other ids for the files that they refer to."""
    if FILE_SCHEME.encode() not in messages:
        return messages
    text = messages.decode("ascii")  # `json.dumps` escapes everything else
    return _REFERENCE.sub(lambda found: f"{FILE_SCHEME}{new_id(found[1])}", text).encode()
