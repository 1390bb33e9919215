"""What `StateMethods` stands on, by a gateway."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sessions.errors import BadRequest
from sessions.protocol.state_ops import StateOp, check_field
from sessions.remote.address import segment
from sessions.remote.wire import reading

if TYPE_CHECKING:
    from sessions.remote.backend import RemoteSession


async def get(session: RemoteSession, key: str | None, default: Any) -> Any:
    """One value, or all; see `StateMethods.aget_state`."""
    if key is None:
        told = await session.client.api("GET", "/state")
        with reading("state"):
            return told["state"]
    found = await session.client.api_or_none("GET", _path(check_field(key)))
    return default if found is None else found.get("value", default)


async def write(session: RemoteSession, ops: list[StateOp]) -> list[Any]:
    """Carry out changes; see `StateMethods.aupdate_state`. All of several are sets, for nothing else comes together."""
    if not ops:
        return []
    if all(op.kind == "set" for op in ops):
        await session.client.api("PATCH", "/state", json={"values": {op.field: json.loads(op.a) for op in ops}})
        return []
    if len(ops) > 1:
        raise BadRequest("several changes of state at once are sets: use update_state")
    return [await _one(session, ops[0])]


async def _one(session: RemoteSession, op: StateOp) -> Any:
    """A change that is no set. What is not the same when it is done twice, is not sent twice."""
    match op.kind:
        case "delete":
            await session.client.api("DELETE", _path(op.field))
            return None
        case "increment":
            body = {"amount": json.loads(op.a), "default": json.loads(op.b)}
            told = await session.client.api("POST", f"{_path(op.field)}/increment", json=body, repeatable=False)
            with reading("number"):
                return told["value"]
        case _:
            body = {"expected": json.loads(op.a) if op.a else None, "value": json.loads(op.b)}
            await session.client.api("PUT", _path(op.field), json=body, repeatable=False)
            return None


def _path(key: str) -> str:
    return f"/state/{segment(key)}"
