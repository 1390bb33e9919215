"""The log lines of each turn: one when an attempt starts, and one when the turn ends or leaves this worker.

An attempt that loses its lease has no such line at its end; the line `lease_lost` stands for it (`lost_leases`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from structlog.contextvars import bind_contextvars, unbind_contextvars

from broker_config.telemetry import get_logger
from sessions.protocol.turn import TurnRequest, TurnStatus, Usage
from sessions.store.leases import Ending
from sessions.store.open_turn import OpenTurn
from workers.lease.held_turn import HeldTurn

_log = get_logger(__name__)
_IDS = ("session", "turn", "attempt")


def attempt_started(held: HeldTurn, model_of: Callable[[str], str]) -> None:
    """Log that an attempt starts. From here on, every log line in this context names the turn, other libraries' too.

    Args:
        model_of: the model of an agent whose configuration names none, by the agent's name.
    """
    turn = held.turn
    held.log_fields = _fields(turn, model_of)
    bind_contextvars(session=held.keys.ref, turn=held.turn_id, attempt=turn.attempt)
    log = _log.debug if "operation" in held.log_fields else _log.info
    log("turn_started", **held.log_fields, queued_ms=turn.now_ms - turn.accepted_ms)


def turn_ended(held: HeldTurn, status: TurnStatus, ending: Ending) -> None:
    """Log that the turn has its final status."""
    usage = _usage(ending.usage)
    error = {"error": json.loads(ending.error)["type"]} if ending.error and status is TurnStatus.FAILED else {}
    _log.info("turn_ended", **held.log_fields, status=status.value, ms=_ms(held), **usage, **error)


def turn_left(held: HeldTurn, status: TurnStatus, why: str, **details: Any) -> None:
    """Log that this worker stops running the turn, and the turn goes on later, here or elsewhere."""
    _log.info("turn_left", **held.log_fields, status=status.value, why=why, ms=_ms(held), **details)


def nothing_runs() -> None:
    """Stop naming the turn in the log lines of this context."""
    unbind_contextvars(*_IDS)


def _fields(turn: OpenTurn, model_of: Callable[[str], str]) -> dict[str, Any]:
    """What kind of turn it is: an agent's with its model, a team's run, or a retrieval operation."""
    if turn.unreadable is not None:
        return {}
    request: Mapping[str, Any] = json.loads(turn.request)
    if operation := request.get("operation"):
        return {"operation": operation.get("kind")}
    agent: str = request.get("agent", TurnRequest.model_fields["agent"].default)
    if request.get("team"):
        return {"agent": agent, "team": True}
    return {"agent": agent, "model": _model(turn.agent) or model_of(agent)}


@lru_cache(maxsize=1024)
def _model(config: bytes) -> str | None:
    model: str | None = json.loads(config).get("model") if config else None
    return model


def _usage(usage: bytes) -> dict[str, Any]:
    spent = json.loads(usage)
    return {name: spent[name] for name in Usage.model_fields if name in spent}


def _ms(held: HeldTurn) -> int:
    return round((time.monotonic() - held.attempt_started) * 1000)
