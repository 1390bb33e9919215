"""What the log says of each turn: a line when an attempt begins, and one when it ends or leaves this worker.

An attempt whose lease is lost has no line of an end here: the line `lease_lost` says so (`losses`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from structlog.contextvars import bind_contextvars, unbind_contextvars

from broker_config.telemetry import get_logger
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.leases import Ending
from sessions.store.open_turn import OpenTurn
from workers.lease.held_turn import HeldTurn

_log = get_logger(__name__)
_IDS = ("session", "turn", "attempt")


def turn_started(held: HeldTurn, model_of: Callable[[str], str]) -> None:
    """An attempt begins. All that is logged in its course, by other libraries too, names its turn.

    Args:
        model_of: the model of an agent whose configuration names none, by the agent's name.
    """
    begun = held.turn
    held.about = _about(begun, model_of)
    bind_contextvars(session=held.keys.ref, turn=held.turn_id, attempt=begun.attempt)
    say = _log.debug if "operation" in held.about else _log.info
    say("turn_started", **held.about, queued_ms=begun.now_ms - begun.accepted_ms)


def turn_ended(held: HeldTurn, status: TurnStatus, ending: Ending) -> None:
    """The turn has its final status."""
    cost = _cost(ending.usage)
    error = {"error": json.loads(ending.error)["type"]} if ending.error and status is TurnStatus.FAILED else {}
    _log.info("turn_ended", **held.about, status=status.value, ms=_ms(held), **cost, **error)


def turn_left(held: HeldTurn, status: TurnStatus, why: str, **what: Any) -> None:
    """The turn goes on later, here or elsewhere."""
    _log.info("turn_left", **held.about, status=status.value, why=why, ms=_ms(held), **what)


def turn_over() -> None:
    """Nothing of a turn runs in this context any more."""
    unbind_contextvars(*_IDS)


def _about(begun: OpenTurn, model_of: Callable[[str], str]) -> dict[str, Any]:
    """What the turn is: an agent's with its model, a team's run, or an operation of the retrieval role."""
    if begun.unreadable is not None:
        return {}
    request: Mapping[str, Any] = json.loads(begun.request)
    if operation := request.get("operation"):
        return {"operation": operation.get("kind")}
    agent: str = request.get("agent", TurnRequest.model_fields["agent"].default)
    if request.get("team"):
        return {"agent": agent, "team": True}
    return {"agent": agent, "model": _model(begun.agent) or model_of(agent)}


@lru_cache(maxsize=1024)
def _model(config: bytes) -> str | None:
    model: str | None = json.loads(config).get("model") if config else None
    return model


def _cost(usage: bytes) -> dict[str, Any]:
    spent = json.loads(usage)
    names = ("requests", "input_tokens", "output_tokens", "tool_calls", "cost")
    return {name: spent[name] for name in names if name in spent}


def _ms(held: HeldTurn) -> int:
    return round((time.monotonic() - held.attempt_started) * 1000)
