"""`LocalBackend`: the back end of a session whose records are in the fleet's store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker_config.settings import Settings
from sessions.client.arguments.message import Content
from sessions.client.backend import SubmissionOf
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.client.ports import SessionRef
from sessions.client.result import result_of
from sessions.local.approvals import LocalApprovals
from sessions.local.deletion import LocalDeletion
from sessions.local.files import LocalFiles
from sessions.local.history_search import LocalHistorySearch
from sessions.local.knowledge import LocalKnowledge
from sessions.local.lifecycle import LocalLifecycle
from sessions.local.listing import LocalListing
from sessions.local.memory import LocalMemory
from sessions.local.schedules import LocalSchedules
from sessions.local.sharing import LocalSharing
from sessions.local.state import LocalState
from sessions.local.transfer import LocalTransfer
from sessions.local.turns import LocalTurnLists
from sessions.local.usage import LocalUsage


class LocalBackend:
    """The fleet with these settings, as a `Backend`; None for the environment's."""

    agent_url = None
    timeout = None
    agent_name = None

    def __init__(self, settings: Settings | None) -> None:
        self.settings = settings
        self.state = LocalState(self.fleet)
        self.lifecycle = LocalLifecycle(self.fleet)
        self.turns = LocalTurnLists(self.fleet)
        self.deletion = LocalDeletion(self.fleet)
        self.listing = LocalListing(self.fleet)
        self.approvals = LocalApprovals(self.fleet)
        self.usage = LocalUsage(self.fleet)
        self.history_search = LocalHistorySearch(self.fleet)
        self.sharing = LocalSharing(self.fleet)
        self.schedules = LocalSchedules(self.fleet)
        self.memory = LocalMemory(self.fleet)
        self.knowledge = LocalKnowledge(self.fleet)
        self.files = LocalFiles(self.fleet)
        self.transfer = LocalTransfer(self.fleet, self.knowledge)

    def fleet(self) -> FleetClient:
        """This process's client of the fleet; looked up at each use, because a forked child needs its own."""
        return get_client(self.settings)

    def client(self, session: SessionRef) -> FleetClient:
        """The client that sends the session's requests."""
        return self.fleet()

    async def converse(
        self, session: SessionRef, message: Content, submission_of: SubmissionOf, options: Mapping[str, Any]
    ) -> Any:
        """Send a message to the session's default agent and wait for the answer; see `Session.achat`."""
        record = await self.fleet().turns.run(session.keys, submission_of(message, **options))
        return result_of(record, session.keys.public_id(record.part), None)
