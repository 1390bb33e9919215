"""The agents that a tenant defines by name, once, for all its sessions. The gateway looks them up here."""

from __future__ import annotations

from broker_config.settings import Settings
from sessions.api.agent import Agent
from sessions.client.arguments.values import short_text
from sessions.client.blocking import blocking
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.client.portal import Portal
from sessions.protocol.agent import AgentConfig
from sessions.store.keys import valid_tenant


class AgentDirectory:
    """A tenant's agents by name, kept in the store until they are deleted. Each method has its async form.

    Callers of the gateway name them: `POST /agent/Writer`, or `{"agent": "Writer"}` of a turn. In Python,
    `Agent.of_config(directory.get("Writer"), session)` is the same agent.

    Args:
        tenant: whose; SESSIONFLEET_TENANT when None.
        settings: another fleet than the environment's.

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
        """The configuration that a name stands for; None where it is not defined."""
        return await self.portal.acall(self._get(short_text("name", name)))

    get = blocking(aget)

    async def alist(self) -> dict[str, AgentConfig]:
        """All that are defined, by name."""
        return await self.portal.acall(self._list())

    list = blocking(alist)

    async def aput(self, agent: Agent) -> bool:
        """Define an agent under its name, or define it anew: turns that are accepted from now on have it like that.

        Returns:
            Whether the name is new.

        Raises:
            BadRequest: its name is too long, or there are 1,000 already. MessageTooLarge: it is as large as no message.
        """
        return await self.portal.acall(self._put(agent))

    put = blocking(aput)

    async def adelete(self, name: str) -> bool:
        """Forget a definition; False where there is none. A session that was served by it goes on with it."""
        return await self.portal.acall(self._delete(short_text("name", name)))

    delete = blocking(adelete)

    async def _get(self, name: str) -> AgentConfig | None:
        await self._client.open()
        return await self._client.stores.definitions.find(self._tenant, name)

    async def _list(self) -> dict[str, AgentConfig]:
        await self._client.open()
        return await self._client.stores.definitions.all(self._tenant)

    async def _put(self, agent: Agent) -> bool:
        short_text("name", agent.name)
        self._client.turns.check_message(agent.config.model_dump_json())
        await self._client.open()
        await self._client.admission.refuse_when_full()
        return await self._client.stores.definitions.put(self._tenant, agent.config)

    async def _delete(self, name: str) -> bool:
        await self._client.open()
        return await self._client.stores.definitions.delete(self._tenant, name)
