"""`POST /agent`, in the dialects of PraisonAI's clients and of simple servers: one message in, the answer out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker_config.version import package_version
from sessions.gateway.agents import ASSISTANT, canonical, named_agent
from sessions.gateway.caller import Writer
from sessions.gateway.parameters import SESSION_ID, IdempotencyKey
from sessions.gateway.prefer import while_there
from sessions.gateway.problems import responses
from sessions.gateway.strict_json import StrictRoute
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import keyed_session_id, new_session_id

router = APIRouter(route_class=StrictRoute)


class AgentMessage(BaseModel):
    """A message, in either dialect: simple clients send `message`, PraisonAI's clients send `query`."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"message": "My name is Alice", "session_id": "chat-1"},
                {"query": "What is my name?", "session_id": "chat-1", "user_id": "default_user"},
            ]
        },
    )

    message: str | None = None
    query: str | None = None
    session_id: str | None = Field(
        None, description="Generated if absent; it is in the answer.", json_schema_extra=SESSION_ID
    )
    user_id: str | None = Field(None, min_length=1, max_length=256)

    @model_validator(mode="after")
    def _one(self) -> AgentMessage:
        if not (self.message or self.query):
            raise ValueError("send the text as `message`, or as `query`")
        if self.message and self.query and self.message != self.query:
            raise ValueError("`message` and `query` differ: send one of them")
        return self

    @property
    def text(self) -> str:
        """The message's text."""
        return self.message or self.query or ""


class Metadata(BaseModel):
    """Data about an answer."""

    agent_name: str
    timestamp: datetime
    turn_id: str
    status: TurnStatus


class Reply(BaseModel):
    """An answer, in both dialects."""

    content: Any = Field(description="The answer; `response` is the same.")
    response: Any
    session_id: str
    metadata: Metadata


class Health(BaseModel):
    """The gateway answers; nothing is looked up for it."""

    status: Literal["ok"] = "ok"
    agent: str = ASSISTANT
    server: Literal["sessionfleet"] = "sessionfleet"
    version: str
    api: Literal["v1"] = "v1"


_SLACK: Final = 5.0
"""Seconds within which a turn ends that is past its deadline."""
_FAILURES: Final = responses(404, 409, 502, 504)


@router.get("/health", operation_id="health", summary="Is the gateway running?", tags=["health"])
@router.get(
    "/agent/health", operation_id="default_agent_health", summary="Is the default agent available?", tags=["agent"]
)
async def health() -> Health:
    """Liveness; `/ready` says whether turns can run."""
    return Health(version=package_version())


@router.get("/agent/{name:anything}/health", summary="Is an agent available?", tags=["agent"])
async def agent_health(name: str) -> Health:
    """Liveness. Whether the agent exists is checked when it is asked."""
    return Health(version=package_version(), agent=name)


@router.post("/agent/", include_in_schema=False)
@router.post("/agent", responses=_FAILURES, summary="Ask the default agent", tags=["agent"])
async def ask_assistant(
    body: AgentMessage, caller: Writer, request: Request, idempotency_key: IdempotencyKey = None
) -> Reply:
    """Waits for the answer. Disconnecting stops the wait, not the turn."""
    return await ask_agent(ASSISTANT, body, caller, request, idempotency_key)


@router.post("/agent/{name:agent}", responses=_FAILURES, summary="Ask an agent", tags=["agent"])
async def ask_agent(
    name: str, body: AgentMessage, caller: Writer, request: Request, idempotency_key: IdempotencyKey = None
) -> Reply:
    """Waits for the answer; see `POST /agent`."""
    user = caller.user_or(body.user_id)
    session = caller.session_of(user, body.session_id or _session_for(user, name, idempotency_key))
    agent = await named_agent(caller, session, name)
    turn = await agent.asubmit(body.text, idempotency_key=idempotency_key)
    # Later than its deadline only if it waits for an approval, or if no worker serves its queue.
    patience = caller.gateway.settings.turn_timeout + _SLACK
    content = await while_there(request, turn.aresult(timeout=patience))
    metadata = Metadata(
        agent_name=agent.name, timestamp=datetime.now(UTC), turn_id=turn.id, status=TurnStatus.SUCCEEDED
    )
    return Reply(content=content, response=content, session_id=session.session_id, metadata=metadata)


def _session_for(user: str | None, agent: str, idempotency_key: str | None) -> str:
    """A new session; for the same key the same session, because that is where the key's first use is recorded."""
    if idempotency_key is None:
        return new_session_id()
    return keyed_session_id(user or "", canonical(agent), idempotency_key)
