"""A tenant's agents in the store: name -> configuration, one hash next to the tenant's state."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from sessions.errors import BadRequest, CorruptRecord
from sessions.protocol.agent import AgentConfig
from sessions.store.keys import WIDE_APP, SessionKeys
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing

MOST: Final = 1000
"""How many definitions a tenant may have; listing reads all of them."""


class AgentDefinitions:
    """Reads and changes definitions. Each call is one command, so a reader sees a complete definition or none."""

    def __init__(self, scripts: ScriptRunner, client: Any, partitions: int, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._client = client
        self._partitions = partitions
        self._keyring = keyring

    async def find(self, tenant: str, name: str) -> AgentConfig | None:
        """The definition of a name; None if there is none.

        Raises:
            BackendError: the store did not answer, or the definition cannot be read.
        """
        key = self._key(tenant)
        raw = await self._scripts.read("HGET", key, name)
        return None if raw is None else _load(name, self._keyring.open(key, name, raw))

    async def all(self, tenant: str) -> dict[str, AgentConfig]:
        """All definitions, by name."""
        key = self._key(tenant)
        with translated():
            raw = await self._client.hgetall(key)
        found = {name.decode(): value for name, value in raw.items()}
        return {name: _load(name, self._keyring.open(key, name, found[name])) for name in sorted(found)}

    async def put(self, tenant: str, config: AgentConfig) -> bool:
        """Define or redefine an agent; whether the name is new.

        Raises:
            BadRequest: there are too many. BackendError: the store refused it.
        """
        key = self._key(tenant)
        with translated():
            if await self._client.hlen(key) >= MOST and not await self._client.hexists(key, config.name):
                raise BadRequest(f"the tenant has {MOST:,} agents, which is the limit: delete one first")
            sealed = self._keyring.seal(key, config.name, config.model_dump_json().encode())
            return bool(await self._client.hset(key, config.name, sealed))

    async def delete(self, tenant: str, name: str) -> bool:
        """Delete a definition; whether there was one."""
        with translated():
            return bool(await self._client.hdel(self._key(tenant), name))

    def _key(self, tenant: str) -> str:
        return SessionKeys.wide(tenant, WIDE_APP, self._partitions).agents


def _load(name: str, raw: bytes) -> AgentConfig:
    try:
        return AgentConfig.model_validate_json(raw)
    except ValidationError as error:
        raise CorruptRecord(f"the definition of agent {name!r} cannot be read: {error.errors()[0]['msg']}") from error
