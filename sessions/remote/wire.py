"""Orders as a gateway takes them, and its turns as records: what `Agent` and `Turn` work with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from sessions.client.submission import Order
from sessions.errors import BadRequest, InvalidTurnId, RemoteFailed, SessionfleetError
from sessions.protocol.agent import AgentConfig, KnowledgeAt, Recalls
from sessions.protocol.turn import Policy, TurnError, TurnStatus, Usage
from sessions.store.turns import TurnRecord

COLLECTION: Final = "a collection of one's own does not go through a gateway yet"
GATEWAYS_CHOICE: Final = math.inf
"""A time that the caller does not name: the gateway's settings say it."""


def only_given(**values: Any) -> dict[str, Any]:
    """What is said of these: the gateway knows its own defaults."""
    return {name: value for name, value in values.items() if value is not None}


def turn_body(order: Order) -> dict[str, Any]:
    """An order as the body of `POST /v1/sessions/{session}/turns`; what is not said is left out.

    Raises:
        BadRequest: it has parts that do not travel.
    """
    body: dict[str, Any] = {"message": order.request.message, "agent": _agent(order)}
    body |= _recalls(order.request.recalls)
    body |= {name: value for name, value in _times(order).items() if value not in (None, GATEWAYS_CHOICE)}
    if order.request.stream:
        body["stream"] = True
    if order.policy is not Policy.ENQUEUE:
        body["policy"] = order.policy.value
    if not order.waiting_blocks:
        body["waiting_blocks"] = False
    if order.webhook:
        body["webhook"] = order.webhook
    if order.queue != "turns":
        body["queue"] = order.queue
    return body


def _times(order: Order) -> dict[str, float | None]:
    return {
        "timeout": order.timeout,
        "approval_timeout": order.approval_timeout,
        "session_ttl": order.session_ttl,
    }


def _agent(order: Order) -> str | dict[str, Any]:
    """A name alone asks for an agent that is known there; a spec that has nothing but a name is a plain agent else."""
    agent = order.agent
    if agent.registered:
        return agent.name
    if not order.config:
        return {"name": agent.name}
    if agent.delegates:
        asked = ", ".join(repr(delegate.config.name) for delegate in agent.delegates)
        raise BadRequest(f"agent {agent.name!r} has agents as tools ({asked}): that does not go through a gateway yet")
    return {"name": agent.name, **_spec(agent)}


def _spec(agent: AgentConfig) -> dict[str, Any]:
    said = {
        "instructions": agent.instructions,
        "tools": list(agent.tools),
        "model": agent.model,
        "hooks": list(agent.hooks),
        "output_schema": agent.output_schema,
    }
    return {name: value for name, value in said.items() if value} | _recalls(agent.recalls)


def _recalls(recalls: Recalls) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if recalls.memory is not None:
        if recalls.extract:
            raise BadRequest('memory={"extract": True} does not go through a gateway yet: give memory=True')
        said["memory"] = recalls.memory
    if recalls.knowledge is not None:
        said["knowledge"] = _knowledge(recalls.knowledge) if isinstance(recalls.knowledge, KnowledgeAt) else False
    return said


def _knowledge(at: KnowledgeAt) -> Any:
    if at.collection is not None:
        raise BadRequest(f"{COLLECTION}: leave the vector_store out")
    return True if not at.bases else at.bases[0] if len(at.bases) == 1 else list(at.bases)


def turn_record(part: str, resource: Mapping[str, Any]) -> TurnRecord:
    """A turn resource as a record; what a gateway does not tell is 0 or None. Read it within `reading`."""
    status = TurnStatus(resource["status"])
    succeeded, error, usage = status is TurnStatus.SUCCEEDED, resource.get("error"), resource.get("usage")
    return TurnRecord(
        part=part,
        status=status,
        attempt=int(resource["attempt"]),
        crashes=0,
        retries=0,
        accepted_ms=_ms(resource["accepted_at"]) or 0,
        deadline_ms=0,
        started_ms=_ms(resource.get("started_at")),
        ended_ms=_ms(resource.get("ended_at")),
        worker=None,
        cancel_requested=False,
        result=json.dumps({"output": resource.get("result")}).encode() if succeeded else None,
        error=TurnError.model_validate(error) if error else None,
        usage=Usage.model_validate(usage) if usage else None,
        finish_reason=resource.get("finish_reason"),
    )


def moment(text: str | None) -> datetime | None:
    """A time of the gateway's."""
    return None if text is None else datetime.fromisoformat(text)


def _ms(text: str | None) -> int | None:
    at = moment(text)
    return None if at is None else round(at.timestamp() * 1000)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """What a gateway sent is read here.

    Raises:
        RemoteFailed: it, or something before it, sent what this version does not know.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, SessionfleetError) and not isinstance(error, InvalidTurnId):
            raise
        raise RemoteFailed(
            f"the gateway's {what} cannot be read ({error!r}); is it of another version, or a proxy's?"
        ) from error
