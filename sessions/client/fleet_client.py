"""A process's client of a fleet, composed of one part for each concern.

`sessions.client.get_client()` returns the client of this process and these settings. The coroutines of its parts run on
the portal's event loop; `Session`, `Agent` and `Turn` are the public API on top of it.
"""

from __future__ import annotations

from broker_config.settings import Settings
from sessions.client.admission import Admission
from sessions.client.archiving import Archiving
from sessions.client.connection import FleetConnection, Stores
from sessions.client.deliveries import Deliveries
from sessions.client.files import Files
from sessions.client.ownership import Ownership
from sessions.client.portal import Portal
from sessions.client.retrieval import Retrieval
from sessions.client.session_turns import SessionTurns
from sessions.client.submission_limits import SubmissionLimits
from sessions.client.turns import Turns
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing


class FleetClient:
    """The client of one fleet.

    Attributes:
        connection: the stores, and the channels to and from the workers.
        admission: whether the fleet can run a request; ownership: who owns a session.
        files: files of messages and tools' results.
        limits: the limits of tenants and users.
        turns: turns, from their request to their result; session_turns: lists of a session's turns, and its stream.
        retrieval: searches and documents.
    """

    def __init__(self, settings: Settings) -> None:
        self.connection = FleetConnection(settings)
        self.admission = Admission(self.connection)
        self.ownership = Ownership(self.connection)
        self.files = Files(self.connection, self.admission)
        self.limits = SubmissionLimits(self.connection)
        self.turns = Turns(self.connection, self.admission, self.ownership, self.files, self.limits)
        self.session_turns = SessionTurns(self.connection, self.ownership, self.turns)
        self.retrieval = Retrieval(self.connection, self.admission, self.turns)

    @property
    def archiving(self) -> Archiving:
        """Submits what is to be erased from the archive; needs `open` first."""
        stores, dispatcher = self.connection.stores, self.connection.dispatcher
        return Archiving(self.settings, stores.turns, stores.redis, dispatcher.wake)

    @property
    def settings(self) -> Settings:
        """The settings of this fleet."""
        return self.connection.settings

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        return self.connection.portal

    @property
    def keyring(self) -> KeyRing:
        """The encryption keys."""
        return self.connection.keyring

    @property
    def stores(self) -> Stores:
        """The records. `open` connects to them."""
        return self.connection.stores

    async def open(self) -> None:
        """Connect on first use; see `FleetConnection.open`."""
        await self.connection.open()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.connection.aclose()

    def keys(self, session_id: str, tenant: str | None = None) -> SessionKeys:
        """The keys of a session; the settings' tenant if none is given."""
        return SessionKeys.of(tenant or self.settings.tenant, session_id, self.settings.partitions)

    async def deliveries(self) -> Deliveries:
        """Submits deliveries of webhooks; connects first."""
        await self.open()
        connection = self.connection
        return Deliveries(
            self.settings, self.stores.turns, self.stores.calls, self.stores.redis, connection.dispatcher.wake
        )
