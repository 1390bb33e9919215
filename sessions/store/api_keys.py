"""The API keys of a deployment in the store: what each allows, and a digest of it, never the key itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sessions.errors import CorruptRecord
from sessions.store.keys import API_KEYS, API_KEYS_REVOKED, API_KEYS_USED
from sessions.store.scripts import translated


class ApiKeyRecord(BaseModel):
    """The record of one API key.

    Attributes:
        user: the user it acts for; None if it acts for the users that requests name.
        digest: SHA-256 of the whole key, in hex.
        rate, concurrency: its own limits; None: those of the gateway's settings.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    id: str
    name: str = ""
    tenant: str
    user: str | None = None
    acts_for_users: bool = False
    rights: tuple[str, ...]
    digest: str
    created_ms: int
    expires_ms: int | None = None
    rate: int | None = None
    concurrency: int | None = None


class ApiKeyStore:
    """API keys in the store. The hash is read by id; it is small, because people create keys by hand."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def add(self, record: ApiKeyRecord) -> bool:
        """Store a new key; False if the id exists already.

        Raises:
            BackendError: the store refused it.
        """
        with translated():
            return bool(await self._client.hsetnx(API_KEYS, record.id, record.model_dump_json(exclude_defaults=True)))

    async def find(self, key_id: str) -> ApiKeyRecord | None:
        """The record of a key.

        Raises:
            BackendError: the store did not answer, or the record cannot be read.
        """
        with translated():
            raw = await self._client.hget(API_KEYS, key_id)
        return None if raw is None else _read(raw)

    async def any(self) -> bool:
        """Whether any key was ever created. Revoking the last one must not turn authentication off."""
        with translated():
            return bool(await self._client.exists(API_KEYS, API_KEYS_REVOKED))

    async def listed(self) -> list[tuple[ApiKeyRecord, int | None]]:
        """All of them, oldest first, with the time (ms) of their last use, as far as it is known."""
        with translated():
            raw = await self._client.hvals(API_KEYS)
            used = await self._client.hgetall(API_KEYS_USED)
        records = sorted(map(_read, raw), key=lambda record: record.created_ms)
        return [(record, _number(used.get(record.id.encode()))) for record in records]

    async def remove(self, key_id: str) -> bool:
        """Revoke a key; False if there is none with this id."""
        with translated():
            if await self._client.hexists(API_KEYS, key_id):
                await self._client.set(API_KEYS_REVOKED, 1)
            removed = await self._client.hdel(API_KEYS, key_id)
            await self._client.hdel(API_KEYS_USED, key_id)
        return bool(removed)

    async def note_used(self, times_ms: dict[str, int]) -> None:
        """Record when keys were last used; a key that was revoked meanwhile leaves nothing."""
        ids = list(times_ms)
        with translated():
            there = await self._client.hmget(API_KEYS, ids)
            kept = {key_id: times_ms[key_id] for key_id, raw in zip(ids, there, strict=True) if raw is not None}
            if kept:
                await self._client.hset(API_KEYS_USED, mapping=kept)


def _read(raw: bytes) -> ApiKeyRecord:
    try:
        return ApiKeyRecord.model_validate_json(raw)
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, one["loc"])) or str(one["type"]) for one in error.errors())
        raise CorruptRecord(
            f"the record of an API key cannot be read ({wrong}); revoke it and create another"
        ) from None


def _number(raw: bytes | None) -> int | None:
    return None if raw is None else int(raw)
