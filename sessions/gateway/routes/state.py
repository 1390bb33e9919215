"""State: small JSON values stored with the conversation."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.api.session import Session
from sessions.errors import NotFound
from sessions.gateway.caller import Caller, Reader, Writer
from sessions.gateway.parameters import KEYS, SessionId
from sessions.gateway.principal import Right
from sessions.gateway.problems import responses
from sessions.gateway.strict_json import Body, StrictRoute
from sessions.protocol.state_ops import APP

router = APIRouter(prefix="/v1/sessions/{session_id:segment}/state", tags=["state"], route_class=StrictRoute)
Key = Annotated[
    str,
    Path(
        description="Percent-encoded. With the prefix `user:` the user's value in all sessions, with `app:` the "
        "tenant's.",
        min_length=1,
        max_length=256,
        examples=["step"],
    ),
]
_MISSING: Final = object()


class State(BaseModel):
    """A session's own values."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"state": {"step": 2, "cart": ["tea"]}}]})

    state: dict[str, Any]


class Values(Body):
    """Values to set, all or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"values": {"step": 2}}]})

    values: dict[str, Any] = Field(
        description="Of one scope: the session's, the user's or the tenant's.", json_schema_extra=KEYS
    )


class NewValue(Body):
    """A value to set."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"value": 2}, {"value": 3, "expected": 2}]})

    value: Any = Field(description="Any JSON.")
    expected: Any = Field(None, description="Set it only if this is its current value; null: only if it is not set.")


class Amount(Body):
    """The number to add."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"amount": 5, "default": 100}]})

    amount: int | float = 1
    default: int | float = Field(0, description="The value to start from if it is not set.")


class Value(BaseModel):
    """One value."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": "step", "value": 2}]})

    key: str
    value: Any


@router.get("", summary="Read the state")
async def get_state(session_id: SessionId, caller: Reader) -> State:
    """All values of this session; those of the user and the tenant are read by key."""
    return State(state=await caller.session(session_id).aget_state())


@router.patch("", summary="Set several values")
async def update_state(session_id: SessionId, body: Values, caller: Writer) -> State:
    """All or none; others stay. The response has all values of the session."""
    session = _changing(caller, session_id, *body.values)
    await session.aupdate_state(body.values)
    return State(state=await session.aget_state())


@router.get("/{key:anything}", summary="Read a value", responses=responses(404))
async def get_state_value(session_id: SessionId, key: Key, caller: Reader) -> Value:
    """404 if it is not set."""
    value = await caller.session(session_id).aget_state(key, _MISSING)
    if value is _MISSING:
        raise NotFound(f"state {key!r} is not set")
    return Value(key=key, value=value)


@router.put("/{key:anything}", summary="Set a value", responses=responses(409))
async def set_state_value(session_id: SessionId, key: Key, body: NewValue, caller: Writer) -> Value:
    """With `expected`, only if it is still the value that you read; otherwise 409."""
    session = _changing(caller, session_id, key)
    if "expected" in body.model_fields_set:
        await session.acompare_and_set_state(key, body.expected, body.value)
    else:
        await session.aset_state(key, body.value)
    return Value(key=key, value=body.value)


@router.delete("/{key:anything}", status_code=status.HTTP_204_NO_CONTENT, summary="Remove a value")
async def delete_state_value(session_id: SessionId, key: Key, caller: Writer) -> None:
    """No error if it is not set."""
    await _changing(caller, session_id, key).adelete_state(key)


@router.post("/{key:anything}/increment", summary="Add to a number")
async def increment_state_value(session_id: SessionId, key: Key, caller: Writer, body: Amount | None = None) -> Value:
    """Atomically, whoever else adds at the same time; the response has the sum."""
    wanted = body or Amount()
    session = _changing(caller, session_id, key)
    return Value(key=key, value=await session.aincrement_state(key, wanted.amount, wanted.default))


def _changing(caller: Caller, session_id: str, *keys: str) -> Session:
    """The session, if the caller may change these values: those of a tenant need more rights than one's own.

    Raises:
        Forbidden: one of them is the tenant's, and the right `configure` is missing.
    """
    if any(key.startswith(APP) for key in keys):
        caller.principal.need(Right.CONFIGURE)
    return caller.session(session_id)
