"""State at a gateway."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sessions.client.ports import SessionRef
from sessions.errors import BadRequest
from sessions.protocol.state_ops import StateOp, check_field
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parsing


class RemoteState:
    """`StateCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def get(self, session: SessionRef, key: str | None, default: Any) -> Any:
        """One value, or all; see `StateMethods.aget_state`."""
        if key is None:
            answer = await self._client(session).api("GET", "/state")
            with parsing("state"):
                return answer["state"]
        found = await self._client(session).api_or_none("GET", _path(check_field(key)))
        return default if found is None else found.get("value", default)

    async def write(self, session: SessionRef, ops: list[StateOp]) -> list[Any]:
        """Make changes; see `StateMethods.aupdate_state`. Several changes at once must all be sets."""
        if not ops:
            return []
        if all(op.kind == "set" for op in ops):
            await self._client(session).api(
                "PATCH", "/state", json={"values": {op.field: json.loads(op.a) for op in ops}}
            )
            return []
        if len(ops) > 1:
            raise BadRequest("with a gateway, only update_state can make several changes at once")
        return [await self._one(session, ops[0])]

    async def _one(self, session: SessionRef, op: StateOp) -> Any:
        """A change that is not a set. Only a deletion is retried after a lost response: repeating it is harmless."""
        client = self._client(session)
        match op.kind:
            case "delete":
                await client.api("DELETE", _path(op.field))
                return None
            case "increment":
                body = {"amount": json.loads(op.a), "default": json.loads(op.b)}
                answer = await client.api("POST", f"{_path(op.field)}/increment", json=body, repeatable=False)
                with parsing("number"):
                    return answer["value"]
            case _:
                body = {"expected": json.loads(op.a) if op.a else None, "value": json.loads(op.b)}
                await client.api("PUT", _path(op.field), json=body, repeatable=False)
                return None


def _path(key: str) -> str:
    return f"/state/{segment(key)}"
