"""Submissions as a gateway accepts them, and its turns as records: what `Agent` and `Turn` work with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from sessions.errors import BadRequest, InvalidTurnId, RemoteFailed, SessionfleetError
from sessions.protocol.agent import AgentConfig, KnowledgeAt, Recalls
from sessions.protocol.turn import Policy, TurnError, TurnStatus, Usage
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord

COLLECTION: Final = "a collection of your own is not supported through a gateway yet"
GATEWAYS_CHOICE: Final = math.inf
"""A time that the caller does not set: the gateway's settings do."""


def only_given(**values: Any) -> dict[str, Any]:
    """What to omit of these: the gateway knows its own defaults."""
    return {name: value for name, value in values.items() if value is not None}


def turn_body(submission: Submission) -> dict[str, Any]:
    """A submission as the body of `POST /v1/sessions/{session}/turns`; parts that are not set are omitted.

    Raises:
        BadRequest: it has parts that a gateway does not support.
    """
    body: dict[str, Any] = {"message": submission.request.message, "agent": _agent(submission)}
    body |= _recalls(submission.request.recalls)
    body |= {name: value for name, value in _times(submission).items() if value not in (None, GATEWAYS_CHOICE)}
    if submission.request.stream:
        body["stream"] = True
    if submission.policy is not Policy.ENQUEUE:
        body["policy"] = submission.policy.value
    if not submission.waiting_blocks:
        body["waiting_blocks"] = False
    if submission.webhook:
        body["webhook"] = submission.webhook
    if submission.queue != "turns":
        body["queue"] = submission.queue
    return body


def _times(submission: Submission) -> dict[str, float | None]:
    return {
        "timeout": submission.timeout,
        "approval_timeout": submission.approval_timeout,
        "session_ttl": submission.session_ttl,
    }


def _agent(submission: Submission) -> str | dict[str, Any]:
    """A name only means an agent that is known there; otherwise a spec with nothing but a name is a plain agent."""
    agent = submission.agent or AgentConfig(name=submission.request.agent)
    if agent.registered:
        return agent.name
    if not submission.config:
        return {"name": agent.name}
    if agent.delegates:
        asked = ", ".join(repr(delegate.config.name) for delegate in agent.delegates)
        raise BadRequest(
            f"agent {agent.name!r} has agents as tools ({asked}), which is not supported through a gateway yet"
        )
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
            raise BadRequest('memory={"extract": True} is not supported through a gateway yet: use memory=True')
        said["memory"] = recalls.memory
    if recalls.knowledge is not None:
        said["knowledge"] = _knowledge(recalls.knowledge) if isinstance(recalls.knowledge, KnowledgeAt) else False
    return said


def _knowledge(at: KnowledgeAt) -> Any:
    if at.collection is not None:
        raise BadRequest(f"{COLLECTION}: omit the vector_store")
    return True if not at.bases else at.bases[0] if len(at.bases) == 1 else list(at.bases)


def turn_record(part: str, resource: Mapping[str, Any]) -> TurnRecord:
    """A turn resource as a record; what a gateway does not send is 0 or None. Call it within `reading`."""
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
    """A time sent by the gateway."""
    return None if text is None else datetime.fromisoformat(text)


def _ms(text: str | None) -> int | None:
    at = moment(text)
    return None if at is None else round(at.timestamp() * 1000)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Contains the parsing of what a gateway sent.

    Raises:
        RemoteFailed: it, or something in front of it, sent something that this version does not know.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, SessionfleetError) and not isinstance(error, InvalidTurnId):
            raise
        raise RemoteFailed(
            f"the gateway's {what} cannot be parsed ({error!r}); is it another version, or a proxy's response?"
        ) from error
