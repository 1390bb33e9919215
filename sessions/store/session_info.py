"""`SessionInfo`: a session and its counts, from its record and without reading its turns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from sessions.errors import BadRequest, CorruptRecord
from sessions.protocol.compaction_requests import Compact
from sessions.protocol.usage import known_cost
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing

TITLE: Final = "title"
METADATA: Final = "metadata"
SEALED: Final = (TITLE, METADATA)
"""The fields whose values are encrypted."""

FIELDS: Final = (
    *("created", "owner", "used", "ttl", "queue", "open", "turns", "messages"),
    *("requests", "input_tokens", "output_tokens", "cost", "searchable", "compact", TITLE, METADATA),
    *("cache_read_tokens", "cache_write_tokens", "unpriced_requests"),
)
"""The fields of the session's record that `SessionInfo.read` needs, in this order."""

METADATA_LIMIT: Final = 8 * 1024
"""Bytes of a session's metadata as JSON."""

MetadataValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session and its counts.

    Attributes:
        title: one line for a list of conversations; by default the beginning of the first message.
        user_id: its owner; None if no user has claimed it.
        last_used_at: the last turn, change of state or memories, or checkpoint. Reading is no use.
        turns: how many have ended; open_turns: how many have not.
        messages: in the history; requests: to models.
        cost: US dollars, as far as prices are known; None if no request has a known price.
        unpriced_requests: how many requests have an unknown price, so that `cost` does not contain them.
        cache_read_tokens: of the input tokens, how many came from providers' prompt caches; cache_write_tokens: how
            many were written to them.
        searchable: whether its transcript is in the index for searches.
        compact: `auto` if the turns before its window are summarised.
        expires_at: when it expires if it is not used until then; None for never, and while a turn is open.
    """

    session_id: str
    title: str
    metadata: Mapping[str, MetadataValue]
    user_id: str | None
    created_at: datetime
    last_used_at: datetime
    turns: int
    messages: int
    open_turns: int
    requests: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    queue: str = "turns"
    searchable: bool = False
    compact: Compact = "off"
    expires_at: datetime | None = field(default=None)
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    unpriced_requests: int = 0

    @classmethod
    def read(cls, keys: SessionKeys, keyring: KeyRing, values: Sequence[bytes | None]) -> Self | None:
        """A session from the `FIELDS` of its record; None if there is no such session.

        Raises:
            CorruptRecord: a field cannot be read. SealError: one cannot be decrypted.
        """
        raw = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
        if "created" not in raw:
            return None
        try:
            return cls._of(keys, raw, keyring)
        except (ValueError, UnicodeDecodeError) as error:
            raise CorruptRecord(f"the record of session {keys.session_id!r} cannot be read: {error!r}") from error

    @classmethod
    def _of(cls, keys: SessionKeys, raw: Mapping[str, bytes], keyring: KeyRing) -> Self:
        number = {name: int(value) for name, value in raw.items() if value.isdigit()}
        used, ttl, open_turns = number.get("used", number["created"]), number.get("ttl", 0), number.get("open", 0)
        requests, unpriced = number.get("requests", 0), number.get("unpriced_requests", 0)
        return cls(
            session_id=keys.session_id,
            title=keyring.open(keys.meta, TITLE, raw.get(TITLE, b"")).decode(),
            metadata=open_metadata(keys, keyring, raw.get(METADATA, b"")),
            user_id=raw["owner"].decode() if "owner" in raw else None,
            created_at=_time(number["created"]),
            last_used_at=_time(used),
            turns=number.get("turns", 0),
            messages=number.get("messages", 0),
            open_turns=open_turns,
            requests=requests,
            input_tokens=number.get("input_tokens", 0),
            output_tokens=number.get("output_tokens", 0),
            cost=known_cost(float(raw.get("cost", 0)), requests, unpriced),
            queue=raw.get("queue", b"turns").decode(),
            searchable=raw.get("searchable") == b"1",
            compact="auto" if raw.get("compact") == b"auto" else "off",
            expires_at=_time(used + ttl) if ttl and not open_turns else None,
            cache_read_tokens=number.get("cache_read_tokens", 0),
            cache_write_tokens=number.get("cache_write_tokens", 0),
            unpriced_requests=unpriced,
        )


def merged_metadata(
    metadata: Mapping[str, MetadataValue], changes: Mapping[str, MetadataValue | None]
) -> dict[str, MetadataValue]:
    """The metadata after changes, in which None removes a name.

    Raises:
        BadRequest: they are larger than METADATA_LIMIT.
    """
    merged = {name: value for name, value in {**metadata, **changes}.items() if value is not None}
    if (size := len(json.dumps(merged, ensure_ascii=False).encode())) > METADATA_LIMIT:
        raise BadRequest(f"the metadata would have {size} bytes as JSON, the limit is {METADATA_LIMIT}: remove some")
    return merged


def open_metadata(keys: SessionKeys, keyring: KeyRing, stored: bytes) -> dict[str, Any]:
    """Metadata as they are stored, decrypted; empty for none."""
    found: dict[str, Any] = json.loads(keyring.open(keys.meta, METADATA, stored)) if stored else {}
    return found


def seal_metadata(keys: SessionKeys, keyring: KeyRing, metadata: Mapping[str, Any]) -> bytes:
    """The bytes to store; empty for none."""
    if not metadata:
        return b""
    return keyring.seal(keys.meta, METADATA, json.dumps(dict(metadata), ensure_ascii=False).encode())


def searchable_argument(searchable: bool | None) -> str:
    """Whether a session is searchable, as the scripts take it; None leaves it as it is."""
    return "" if searchable is None else str(int(searchable))


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
