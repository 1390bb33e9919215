"""A hash of the fleet's that operators change, with the number of its changes: processes keep copies, and ask for that.

Used by the limits of tenants and users, and by budgets.
"""

from __future__ import annotations

from typing import Any

from sessions.store.scripts import translated


class VersionedHash:
    """Every method raises `BackendError` if the store did not answer."""

    def __init__(self, client: Any, key: str, version_key: str) -> None:
        self._client = client
        self._key = key
        self._version_key = version_key

    async def version(self) -> int:
        """Changes with every change of the hash."""
        with translated():
            return int(await self._client.get(self._version_key) or 0)

    async def get(self, field: str) -> bytes | None:
        """One value."""
        with translated():
            found: bytes | None = await self._client.hget(self._key, field)
            return found

    async def all(self) -> dict[str, bytes]:
        """All values."""
        with translated():
            raw = await self._client.hgetall(self._key)
        return {field.decode(): value for field, value in raw.items()}

    async def set(self, field: str, value: str) -> None:
        """Set a value, in one step with the version: a value without it might stay unknown to the copies."""
        with translated():
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(self._key, field, value)
            pipe.incr(self._version_key)
            await pipe.execute()

    async def remove(self, field: str) -> bool:
        """Remove a value; whether there was one."""
        with translated():
            pipe = self._client.pipeline(transaction=True)
            pipe.hdel(self._key, field)
            pipe.incr(self._version_key)
            return bool((await pipe.execute())[0])
