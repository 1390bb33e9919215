"""State of a turn: what its tools read, what its commit changes, and the effects on keys in other cluster slots."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from typing import Any

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.archiving import Archiving
from sessions.client.deliveries import Deliveries
from sessions.errors import SessionBusy
from sessions.protocol.agent import AgentConfig
from sessions.protocol.compaction_requests import CompactHistory
from sessions.protocol.state_ops import APP, USER, StateOp
from sessions.store.keys import SessionKeys
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.state import Effect, StateScope, StateStore, ack_effect, session_scope, wide_scope
from sessions.tools.turn_state import TurnState
from workers.retrieval_role import extraction, transcript_updates
from workers.retrieval_role.extraction import FactExtraction
from workers.retrieval_role.transcript_updates import TranscriptUpdates
from workers.turns.compaction import Compaction
from workers.turns.titles import TitleWriting

_log = get_logger(__name__)


class TurnStates:
    """Loads state for turns and writes their changes. One per worker process."""

    def __init__(
        self,
        settings: Settings,
        scripts: ScriptRunner,
        client: Any,
        facts: FactExtraction,
        webhooks: Deliveries,
        titles: TitleWriting,
        archiving: Archiving,
        transcripts: TranscriptUpdates,
        compaction: Compaction,
    ) -> None:
        self._settings = settings
        self._transcripts = transcripts
        self._compaction = compaction
        self._facts = facts
        self._titles = titles
        self._webhooks = webhooks
        self._archiving = archiving
        self._scripts = scripts
        self._keyring = KeyRing.of(settings)
        self._store = StateStore(scripts, client, self._keyring)

    async def load(self, keys: SessionKeys, turn: OpenTurn, agent: AgentConfig) -> TurnState:
        """The state that the turn's tools read. For an agent without tools nothing is fetched.

        Raises:
            CorruptRecord: the state is not JSON. SealError: it cannot be decrypted.
        """
        if not agent.tools and not agent.registered:
            return TurnState()
        values = self._store.opened(session_scope(keys), turn.state)
        for scope in self._wide(keys, turn.user_id).values():
            values |= await self._store.read(scope)
        return TurnState(values)

    def changes(self, keys: SessionKeys, turn: OpenTurn, state: TurnState) -> tuple[list[StateOp], list[bytes]]:
        """The changes to the session's own state, for the commit, and those to other slots, for its outbox."""
        own: list[StateOp] = []
        wide: dict[str, list[StateOp]] = {}
        for op in state.ops:
            prefix = next((p for p in (USER, APP) if op.field.startswith(p)), None)
            (own if prefix is None else wide.setdefault(prefix, [])).append(op)
        scopes = self._wide(keys, turn.user_id)
        effects = [
            Effect(f"{turn.part}:{prefix}", scopes[prefix], ops).dump()
            for prefix, ops in wide.items()
            if prefix in scopes
        ]
        return own, [effect.encode() for effect in effects]

    async def apply(self, keys: SessionKeys, entries: Sequence[bytes]) -> None:
        """Apply the effects of committed turns on other slots. Applying one twice changes nothing."""
        for entry in entries:
            effect = json.loads(self._keyring.open(keys.outbox, "", entry))
            match effect.get("kind"):
                case extraction.KIND:
                    await self._facts.submit(keys, effect)
                case "title":
                    await self._titles.submit(keys, effect)
                case transcript_updates.KIND:
                    await self._transcripts.submit(keys, effect)
                case CompactHistory.kind:
                    await self._compaction.submit(keys, CompactHistory.asked_by(effect))
                case "webhook":
                    await self._accept_webhook(
                        keys, effect, self._webhooks.accept(keys, effect["turn"], effect["user"])
                    )
                case "asks":
                    asks = self._webhooks.accept_ask(keys, effect["turn"], int(effect["at"]))
                    await self._accept_webhook(keys, effect, asks)
                case "archive":
                    await self._archiving.accept(keys, effect["turn"], effect["packed"])
                case _:
                    await self._store.apply(effect)
            await ack_effect(self._scripts, keys, entry)

    async def _accept_webhook(self, keys: SessionKeys, effect: dict[str, Any], accepting: Awaitable[None]) -> None:
        try:
            await accepting
        except SessionBusy as error:
            _log.error("webhook_dropped", turn=keys.public_id(effect["turn"]), error=str(error))

    def _wide(self, keys: SessionKeys, user_id: str | None) -> dict[str, StateScope]:
        partitions = self._settings.partitions
        scopes = {APP: wide_scope(keys.tenant, None, partitions)}
        if user_id is not None:
            scopes[USER] = wide_scope(keys.tenant, user_id, partitions)
        return scopes
