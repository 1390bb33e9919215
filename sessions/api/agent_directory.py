"""`AgentDirectory`: agents that a tenant defines once, by name, for all its sessions. The gateway uses them."""

from __future__ import annotations

from broker_config.settings import Settings
from sessions.api.agent import Agent
from sessions.client.arguments.values import short_string
from sessions.client.blocking import blocking
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.client.portal import Portal
from sessions.protocol.agent import AgentConfig
from sessions.store.keys import valid_tenant


class AgentDirectory:
    """A tenant's agents by name, kept in the store until they are deleted. Each method has an async form.

    Callers of the gateway use the name: `POST /agent/Writer`, or `{"agent": "Writer"}` in the body of a turn. In
    Python, `Agent.of_config(directory.get("Writer"), session)` is the same agent.

    Args:
        tenant: None for SESSIONFLEET_TENANT.
        settings: of another fleet than the environment's.

    Raises:
        BadRequest: an argument cannot be used.
    """

    def __init__(self, *, tenant: str | None = None, settings: Settings | None = None) -> None:
        self._settings = settings
        self._tenant = self._client.settings.tenant if tenant is None else valid_tenant(tenant)

    @property
    def portal(self) -> Portal:
        """The loop of this process."""
        return self._client.portal

    @property
    def _client(self) -> FleetClient:
        return get_client(self._settings)

    async def aget(self, name: str) -> AgentConfig | None:
        """The configuration defined under a name; None if there is none."""
        return await self.portal.acall(self._get(short_string("name", name)))

    get = blocking(aget)

    async def alist(self) -> dict[str, AgentConfig]:
        """All definitions, by name."""
        return await self.portal.acall(self._list())

    list = blocking(alist)

    async def aput(self, agent: Agent) -> bool:
        """Define an agent under its name, or redefine it; this applies to turns that are accepted from now on.

        Returns:
            Whether the name is new.

        Raises:
            BadRequest: its name is too long, or there are already 1,000 agents. MessageTooLarge: its configuration is
                larger than SESSIONFLEET_MESSAGE_LIMIT_BYTES.
        """
        return await self.portal.acall(self._put(agent))

    put = blocking(aput)

    async def adelete(self, name: str) -> bool:
        """Delete a definition; False if there is none. Sessions that already used it keep their stored copy."""
        return await self.portal.acall(self._delete(short_string("name", name)))

    delete = blocking(adelete)

    async def _get(self, name: str) -> AgentConfig | None:
        await self._client.open()
        return await self._client.stores.definitions.find(self._tenant, name)

    async def _list(self) -> dict[str, AgentConfig]:
        await self._client.open()
        return await self._client.stores.definitions.all(self._tenant)

    async def _put(self, agent: Agent) -> bool:
        short_string("name", agent.name)
        self._client.turns.check_message(agent.config.model_dump_json())
        await self._client.open()
        await self._client.admission.refuse_when_full()
        return await self._client.stores.definitions.put(self._tenant, agent.config)

    async def _delete(self, name: str) -> bool:
        await self._client.open()
        return await self._client.stores.definitions.delete(self._tenant, name)
