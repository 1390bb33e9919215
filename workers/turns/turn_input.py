"""What a turn is run with: its request, and from it the engine's input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from pydantic import ValidationError

from sessions.errors import TurnFailed
from sessions.protocol.agent import AgentConfig, names_of
from sessions.protocol.turn import TurnRequest
from sessions.protocol.turn_additions import NO_ADDITIONS
from sessions.protocol.turn_limits import TurnLimits
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys
from workers.engine.ports import PastTurn, TurnInput
from workers.lease.held_turn import HeldTurn


def request_of(held: HeldTurn) -> TurnRequest:
    """The turn's request.

    Raises:
        SealError: it cannot be decrypted. TurnFailed: this worker cannot read it.
    """
    if held.turn.unreadable is not None:
        raise held.turn.unreadable
    with _readable():
        return TurnRequest.model_validate_json(held.turn.request)


def input_of(held: HeldTurn, request: TurnRequest, default_model: str, limits: TurnLimits) -> TurnInput:
    """The engine's input for a turn of an agent. A replay gets the same input.

    Args:
        limits: those of this worker.

    Raises:
        TurnFailed: this worker cannot read the agent's configuration.
    """
    turn = held.turn
    with _readable():
        agent = _agent(turn.agent) if turn.agent else AgentConfig(name=request.agent)
    if request.recalls.specified:
        agent = agent.model_copy(update={"recalls": agent.recalls.with_defaults(request.recalls)})
    return TurnInput(
        turn_id=held.turn_id,
        session_id=held.keys.session_id,
        user_id=turn.user_id,
        attempt=turn.attempt,
        message=request.message,
        parts=request.parts,
        agent=agent,
        history=[_past_turn(held.keys, HistoryEntry.load(entry)) for entry in turn.history],
        stream=request.stream,
        summary=turn.summary,
        now_ms=turn.first_started_ms,
        default_model=default_model,
        models=names_of(request.model),
        model_settings=_ASKED_ONCE if request.extraction or request.titles else request.model_settings or {},
        metadata=request.metadata or {},
        limits=limits.and_also(agent.limits).and_also(request.limits),
        additions=request.additions or NO_ADDITIONS,
    )


def _past_turn(keys: SessionKeys, entry: HistoryEntry) -> PastTurn:
    if entry.adapter:
        return PastTurn(entry.agent, entry.messages, entry.incomplete)
    turn_id = keys.public_id(entry.turn)
    return PastTurn(entry.agent, entry.messages, entry.incomplete, turn_id, keys.session_id)


_ASKED_ONCE: Final = {"cache": False}
"""For requests that no other one begins with: to write them to a provider's cache costs more than to send them."""


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise TurnFailed(f"this worker cannot read the request; is it older than the client? {error}") from error


@lru_cache(maxsize=1024)
def _agent(config: bytes) -> AgentConfig:
    return AgentConfig.model_validate_json(config)
