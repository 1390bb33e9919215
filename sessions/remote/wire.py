"""Converts submissions to a gateway's JSON, and its turn resources to turn records."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from sessions.errors import BadRequest, InvalidTurnId, RemoteFailed, SessionfleetError
from sessions.protocol.agent import AgentConfig, KnowledgeBases, RecallSettings
from sessions.protocol.message import shown_parts
from sessions.protocol.turn import Policy, TurnError, TurnStatus, Usage
from sessions.protocol.turn_additions import TurnAdditions
from sessions.protocol.turn_limits import NO_LIMITS, TurnLimits
from sessions.store.submission import Replacement, Submission
from sessions.store.turns import TurnRecord

COLLECTION: Final = "a collection other than the default is not supported by gateways yet"
GATEWAY_DEFAULT: Final = math.inf
"""Stands for a timeout that the caller did not set: the gateway's settings apply."""


def without_none(**values: Any) -> dict[str, Any]:
    """Those of the values that are not None; for the others the gateway has defaults."""
    return {name: value for name, value in values.items() if value is not None}


def turn_body(submission: Submission, session_id: str) -> dict[str, Any]:
    """The body of `POST /v1/sessions/{session}/turns` or `/regenerate`; fields with default values are left out.

    Raises:
        BadRequest: gateways do not support a part of the submission.
    """
    body = _content(submission, session_id)
    body |= _recalls(submission.request.recalls)
    body |= {name: value for name, value in _times(submission).items() if value not in (None, GATEWAY_DEFAULT)}
    if submission.request.stream:
        body["stream"] = True
    if submission.policy is not Policy.ENQUEUE:
        body["policy"] = submission.policy.value
    if not submission.waiting_blocks:
        body["waiting_blocks"] = False
    if submission.webhook:
        body["webhook"] = submission.webhook
    if submission.not_before is not None:
        start = submission.not_before
        body["not_before"] = start.isoformat() if isinstance(start, datetime) else start
    request = submission.request
    body |= without_none(model=request.model, model_settings=request.model_settings, metadata=request.metadata)
    body |= _limits(request.limits)
    body |= _additions(request.additions)
    body |= without_none(searchable=submission.searchable, compact=submission.compact)
    if submission.sender != submission.user_id:
        body["user_id"] = submission.sender
    if submission.queue != "turns":
        body["queue"] = submission.queue
    return body


def _content(submission: Submission, session_id: str) -> dict[str, Any]:
    """What is said to whom, and in whose place; without what the gateway looks up in the turn that is replaced."""
    replacement = submission.replacement or Replacement()
    content: dict[str, Any] = {}
    if not replacement.same_message:
        request = submission.request
        content["message"] = shown_parts(request.parts) if request.parts else request.message
    if not replacement.same_agent:
        content["agent"] = _agent(submission)
    if replacement.turn is not None:
        content["turn_id"] = f"{session_id}~{replacement.turn}"
    return content


def _times(submission: Submission) -> dict[str, float | None]:
    return {
        "timeout": submission.timeout,
        "approval_timeout": submission.approval_timeout,
        "session_ttl": submission.session_ttl,
    }


def _agent(submission: Submission) -> str | dict[str, Any]:
    """An agent's name if it is registered at the server, otherwise its configuration."""
    agent = submission.agent or AgentConfig(name=submission.request.agent)
    if agent.registered:
        return agent.name
    if not submission.config:
        return {"name": agent.name}
    if agent.delegates:
        names = ", ".join(repr(delegate.config.name) for delegate in agent.delegates)
        raise BadRequest(f"agent {agent.name!r} has agents as tools ({names}): gateways do not support that yet")
    return {"name": agent.name, **_spec(agent)}


def _spec(agent: AgentConfig) -> dict[str, Any]:
    fields = {
        "instructions": agent.instructions,
        "tools": list(agent.tools),
        "model": agent.model,
        "hooks": list(agent.hooks),
        "output_schema": agent.output_schema,
    }
    return {name: value for name, value in fields.items() if value} | _recalls(agent.recalls) | _limits(agent.limits)


def _limits(limits: TurnLimits | None) -> dict[str, Any]:
    found = limits or NO_LIMITS
    budget = without_none(tokens=found.tokens, cost=found.cost)
    return without_none(max_model_calls=found.model_calls, max_tool_calls=found.tool_calls, budget=budget or None)


def _additions(additions: TurnAdditions | None) -> dict[str, Any]:
    if additions is None:
        return {}
    choice = additions.tool_choice
    fields = {
        "instructions": additions.instructions or None,
        "outside_tools": [tool.model_dump(exclude_none=True) for tool in additions.tools] or None,
        "tool_choice": list(choice) if isinstance(choice, tuple) else choice,
        "output_schema": additions.output_schema,
    }
    return without_none(**fields)


def _recalls(recalls: RecallSettings) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if recalls.memory is not None:
        if recalls.extract:
            raise BadRequest('memory={"extract": True} is not supported by gateways yet: use memory=True')
        fields["memory"] = recalls.memory
    if recalls.knowledge is not None:
        fields["knowledge"] = _knowledge(recalls.knowledge) if isinstance(recalls.knowledge, KnowledgeBases) else False
    return fields


def _knowledge(at: KnowledgeBases) -> Any:
    if at.collection is not None:
        raise BadRequest(f"{COLLECTION}: remove the vector_store")
    return True if not at.bases else at.bases[0] if len(at.bases) == 1 else list(at.bases)


def turn_record(part: str, resource: Mapping[str, Any]) -> TurnRecord:
    """A turn resource as a record; what a gateway does not send is 0 or None. Call it within `parsing`."""
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
        result=json.dumps({"output": resource["result"], "model": resource.get("model")}).encode()
        if succeeded and "result" in resource
        else None,
        error=TurnError.model_validate(error) if error else None,
        usage=Usage.model_validate(usage) if usage else None,
        finish_reason=resource.get("finish_reason"),
        not_before_ms=_ms(resource.get("not_before")),
        schedule_id=resource.get("schedule_id"),
        metadata=resource.get("metadata") or {},
    )


def parse_time(text: str | None) -> datetime | None:
    """A time in a gateway's JSON."""
    return None if text is None else datetime.fromisoformat(text)


def _ms(text: str | None) -> int | None:
    at = parse_time(text)
    return None if at is None else round(at.timestamp() * 1000)


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Report errors while parsing a gateway's response.

    Raises:
        RemoteFailed: the gateway, or a proxy, sent something that this version does not understand.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, SessionfleetError) and not isinstance(error, InvalidTurnId):
            raise
        raise RemoteFailed(
            f"the gateway's {what} cannot be read ({error!r}): is it another version, or the response of a proxy?"
        ) from error
