"""Summarises, in the background, the turns that have left the window of a session's history (ADR 0044).

    outbox -> a turn in the lane `compact` summarises a chunk -> a turn for the next chunk -> ... -> prompts have it

A chunk is the summary so far and the turns that follow it. Its summary is stored before the turn for the next chunk is
accepted, and both may be repeated. The session's own turns neither wait for any of this nor fail with it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import (
    ContextTooLong,
    ModelError,
    SessionfleetError,
    StoreUnavailable,
    TurnConfigurationError,
)
from sessions.protocol.agent import AgentConfig
from sessions.protocol.compaction_requests import CompactHistory
from sessions.protocol.lanes import COMPACT, LANE_TTL, SEARCH_TTL
from sessions.protocol.turn import TurnRequest
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.submission import Submission
from sessions.store.summaries import SummarySoFar, SummaryStore
from sessions.store.turns import TurnStore
from sessions.store.wake_up import Publish
from workers.engine import Engine
from workers.engine.past_text import text_of
from workers.engine.ports import PastTurn, TurnInput
from workers.engine.summary_request import INSTRUCTIONS, RequestSizes, summary_request, summary_within
from workers.engine.usage import usage_so_far
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal

_log = get_logger(__name__)
_ASKED_ONCE: Final = {"cache": False}  # no other request begins like this one
_PAGE: Final = 8
CHUNK: Final = "chunk"
"""The journal key of which turns are summarised, so that a replay asks the same."""


class _Chunk(BaseModel):
    """Which turns are summarised: those up to a position, with so many bytes of text at most."""

    upto: int
    bytes: int


class Compaction:
    """Submits the turns that write summaries, and runs them. One per worker process."""

    def __init__(
        self, settings: Settings, turns: TurnStore, scripts: ScriptRunner, engine: Engine, publish: Publish
    ) -> None:
        self._settings = settings
        self._turns = turns
        self._scripts = scripts
        self._engine = engine
        self._publish = publish
        self._keyring = KeyRing.of(settings)
        self._summaries = SummaryStore(scripts, self._keyring)
        self._history = HistoryStore(scripts, self._keyring)

    # --- submit -----------------------------------------------------------------------------------------

    async def submit(self, keys: SessionKeys, request: CompactHistory) -> None:
        """Submit the turn for the next chunk. Submitting it again returns the same turn.

        If that is impossible, a later turn of the session asks for the summary again.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        try:
            submission = await self._submission(keys, request)
            if submission is None:
                return
            accepted = await self._turns.accept(keys.lane(COMPACT), submission)
        except StoreUnavailable:
            raise
        except (SessionfleetError, ValueError, KeyError, TypeError, AttributeError) as error:  # of a record, too
            _log.warning("summary_not_asked_for", session=keys.ref, error=repr(error))
            return
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)

    async def _submission(self, keys: SessionKeys, request: CompactHistory) -> Submission | None:
        """None if there is nothing to do, or no model for it."""
        newest = await self._summaries.newest(keys)
        if newest.chain != request.chain or newest.upto >= request.to:
            return None
        model = self._settings.compact_model or await self._model(keys, request.to - 1)
        if (model or self._settings.model or "offline") == "offline":  # it only echoes
            return None
        queue, owner = await self._scripts.read("HMGET", keys.meta, "queue", "owner")
        agent = AgentConfig(name="Summary", instructions=INSTRUCTIONS, model=model)
        return Submission(
            TurnRequest(message="", agent=agent.name, operation=request.spec(), model_settings=_ASKED_ONCE),
            agent=agent,
            config=agent.model_dump_json().encode(),
            named=True,  # a worker of another version may submit it again, with other instructions
            timeout=self._settings.turn_timeout,  # nobody waits, and a small machine may take long
            queue=queue.decode() if queue else "turns",
            sender=owner.decode() if owner else None,  # whose budget it is
            idempotency_key=f"{request.kind}:{request.chain}:{request.asked}:{newest.upto}:{request.most or ''}",
            session_ttl=LANE_TTL,
            result_ttl=SEARCH_TTL,
        )

    async def _model(self, keys: SessionKeys, at: int) -> Any:
        """The model of the agent that answered this turn; None for the worker's default."""
        entries = await self._history.entries(keys, None, at, at)
        stored = await self._scripts.read("HGET", keys.agents, entries[0].agent) if entries else None
        if stored is None:
            return None
        return json.loads(self._keyring.open(keys.agents, entries[0].agent, stored)).get("model")

    # --- run --------------------------------------------------------------------------------------------

    async def run(self, held: HeldTurn, request: TurnRequest, turn: TurnInput, journal: LeasedJournal) -> None:
        """Summarise the next chunk, and submit the turn for the one after it.

        Args:
            turn: the engine's input, without a message.

        Raises:
            As `Engine.run`. ContextTooLong: the model does not even take a small chunk.
        """
        wanted, keys = _wanted(request), held.keys.home
        newest = await self._summaries.newest(keys)
        if newest.chain != wanted.chain:
            _log.info("summary_not_wanted", session=keys.ref)
            return
        if newest.by == held.turn.part:  # it was stored, and then the worker died
            await self.submit(keys, wanted)
        elif newest.upto < wanted.to:
            sizes = RequestSizes.within(self._engine.token_limit(turn), wanted.most)
            try:
                if await self._summarise(held, wanted, newest, turn, journal, sizes):
                    await self.submit(keys, wanted)
            except ContextTooLong:
                if sizes.half_a_chunk is None:
                    raise
                await self.submit(keys, wanted.model_copy(update={"most": sizes.half_a_chunk}))

    async def _summarise(
        self,
        held: HeldTurn,
        wanted: CompactHistory,
        before: SummarySoFar,
        turn: TurnInput,
        journal: LeasedJournal,
        sizes: RequestSizes,
    ) -> bool:
        """Write the summary that continues another one; False if what it covers has changed meanwhile."""
        keys = held.keys.home
        upto, turns = await self._chunk(keys, wanted, before, sizes.chunk, journal)
        asking = replace(
            turn,
            message=summary_request(before.text, turns, sizes),
            model_settings={**turn.model_settings, "max_tokens": sizes.answer},
        )
        answer = await self._engine.run(asking, journal, journal, held.state)
        text = summary_within(answer.text, sizes.summary)
        if not text:
            raise ModelError("the model wrote no summary")
        await journal.settle()
        usage = usage_so_far(held.steps, self._engine.prices).model_dump_json().encode()
        complete = upto >= min(before.due or wanted.to, wanted.to)
        stored = await self._summaries.write(keys, before, held.turn.part, text, upto, complete=complete, usage=usage)
        _log.info("summary_written" if stored else "summary_outdated", session=keys.ref, turns=upto)
        return stored

    async def _chunk(
        self, keys: SessionKeys, wanted: CompactHistory, before: SummarySoFar, size: int, journal: LeasedJournal
    ) -> tuple[int, str]:
        """The position behind the turns to summarise, and their text. A replay gets the same."""
        raw = journal.lookup(CHUNK)
        if raw is not None:
            known = _Chunk.model_validate_json(raw)
            return await self._texts(keys, before.upto, known.upto, known.bytes)
        upto, text = await self._texts(keys, before.upto, wanted.to, size)
        await journal.record(CHUNK, _Chunk(upto=upto, bytes=size).model_dump_json().encode())
        return upto, text

    async def _texts(self, keys: SessionKeys, start: int, end: int, limit: int) -> tuple[int, str]:
        """The text of as many turns from a position on as fit, of one in any case; and the position behind them."""
        texts, size, at = list[str](), 0, start
        while at < end:
            page = await self._history.entries(keys, None, at, min(at + _PAGE, end) - 1)
            for entry in page:
                text = text_of(PastTurn(entry.agent, entry.messages, entry.incomplete), limit)
                size += len(text.encode())
                if size > limit and texts:
                    return at, "\n\n".join(texts)
                texts.append(text)
                at += 1
            if not page:  # they have left the history: what comes of this is not stored
                break
        return at, "\n\n".join(texts)


def _wanted(request: TurnRequest) -> CompactHistory:
    if request.operation is None:
        raise TurnConfigurationError("a turn of this lane needs an operation")
    return CompactHistory.model_validate(request.operation.body)
