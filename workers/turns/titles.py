"""Writes titles of sessions with a model, in the background.

    commit (outbox) -> a turn in the lane `title` asks the model -> the title is written, if it is still wanted

The turn is accepted before the entry of the outbox is removed, and accepting it twice changes nothing. The session's
own turns neither wait for it nor fail with it: if the model writes none, the beginning of the first message stays.
"""

from __future__ import annotations

import json
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import (
    CorruptRecord,
    IdempotencyConflict,
    NotFound,
    SealError,
    SessionBusy,
    SessionExpired,
    StoreFull,
)
from sessions.protocol.agent import AgentConfig
from sessions.protocol.lanes import LANE_TTL, TITLES
from sessions.protocol.text import default_title
from sessions.protocol.turn import TurnRequest
from sessions.store.history import HistoryEntry
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.submission import Submission
from sessions.store.turns import TurnStore
from sessions.store.wake_up import Publish

_log = get_logger(__name__)
_MOST_CHARS: Final = 4_000
_SECONDS: Final = 120.0
_INSTRUCTIONS: Final = """\
You name conversations for a list. Answer with a title of at most six words for the exchange that you are given, in its
language: what it is about, not who speaks. No quotation marks, no full stop, nothing else."""


class TitleWriting:
    """Submits the turns that write titles, and stores what they wrote. One per worker process."""

    def __init__(
        self, settings: Settings, turns: TurnStore, scripts: ScriptRunner, client: Any, publish: Publish
    ) -> None:
        self._settings = settings
        self._turns = turns
        self._client = client
        self._publish = publish
        self._keyring = KeyRing.of(settings)
        self._records = SessionRecords(scripts, client, self._keyring)
        self._history = HistoryStore(scripts, self._keyring)

    async def submit(self, keys: SessionKeys, effect: dict[str, Any]) -> None:
        """Submit the turn for an outbox entry. Submitting it again returns the same turn."""
        submission = await self._submission(keys, effect)
        if submission is None:
            return
        try:
            accepted = await self._turns.accept(keys.lane(TITLES), submission)
        except (SessionBusy, StoreFull, IdempotencyConflict) as error:
            _log.warning("title_not_asked_for", session=keys.ref, error=str(error))
            return
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)

    async def write(self, keys: SessionKeys, answer: str, about: str | None) -> None:
        """Store the title that a model wrote about a turn.

        Not if somebody has set one meanwhile, or if the turn or the session is deleted.
        """
        title = default_title(answer.strip().strip("\"'*#`“”„«» ").removesuffix("."))
        if not title:
            return
        if about is not None and not (await self._history.find(keys, about, in_branches=True)).list:
            _log.info("title_of_no_turn", session=keys.ref)
            return
        try:
            await self._records.update(keys, None, title, {}, by_model=True, about=about)
        except (NotFound, SessionExpired):
            _log.info("title_of_no_session", session=keys.ref)

    async def _submission(self, keys: SessionKeys, effect: dict[str, Any]) -> Submission | None:
        """The turn that asks the model of the session's first agent; None if there is nothing to name, or no model."""
        with translated():
            queue = await self._client.hget(keys.meta, "queue")
        try:
            entries = await self._history.entries(keys, None, 0, 0)
            if not entries:
                return None
            [entry] = entries
            model = await self._model(keys, entry.agent)
            exchange = _exchange(entry)
        except (CorruptRecord, SealError, ValueError, KeyError, TypeError) as error:
            _log.warning("title_not_asked_for", session=keys.ref, error=repr(error))
            return None
        if (model or self._settings.model or "offline") == "offline":  # it only echoes
            return None
        agent = AgentConfig(name="Title", instructions=_INSTRUCTIONS, model=model)
        return Submission(
            TurnRequest(message=exchange, agent=agent.name, titles=True, about=entry.turn),
            agent=agent,
            config=agent.model_dump_json().encode(),
            named=True,  # a worker of another version may submit it again, with other instructions
            timeout=min(_SECONDS, self._settings.turn_timeout),
            queue=queue.decode() if queue else "turns",
            idempotency_key=f"title:{effect['at']}",
            session_ttl=LANE_TTL,
            result_ttl=LANE_TTL,
        )

    async def _model(self, keys: SessionKeys, agent: str) -> Any:
        with translated():
            stored = await self._client.hget(keys.agents, agent)
        return None if stored is None else json.loads(self._keyring.open(keys.agents, agent, stored)).get("model")


def _exchange(entry: HistoryEntry) -> str:
    """The texts of the user and of the agent in a turn."""
    parts = [part for message in json.loads(entry.messages) for part in message["parts"]]
    texts = {"user-prompt": "User", "text": "Assistant"}
    said = [(texts[p["part_kind"]], p["content"]) for p in parts if p["part_kind"] in texts and p.get("content")]
    return "\n\n".join(f"{who}:\n{_text(content)[:_MOST_CHARS]}" for who, content in said)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(each for each in content if isinstance(each, str))
