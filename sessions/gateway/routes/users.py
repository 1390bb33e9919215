"""Users: delete everything of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from sessions.api.session import Session
from sessions.gateway.caller import Writer
from sessions.gateway.problems import responses
from sessions.gateway.session_resources import DeletionReceipt
from sessions.gateway.strict_json import StrictRoute

router = APIRouter(prefix="/v1/users", tags=["sessions"], route_class=StrictRoute)


@router.delete("/{user_id:segment}", summary="Delete everything of a user", responses=responses(502, 504))
async def delete_user(
    user_id: Annotated[
        str, Path(description="Percent-encoded; a user you act for.", examples=["alice"], min_length=1, max_length=256)
    ],
    caller: Writer,
) -> DeletionReceipt:
    """The sessions with everything in them, and the user's memories, state and documents. It may be repeated."""
    user = caller.user_or(user_id) or user_id
    return DeletionReceipt(
        **await Session.adelete_user(user, tenant=caller.principal.tenant, settings=caller.gateway.settings)
    )
