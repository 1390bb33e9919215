"""What was used: requests, tokens and cost by day, user and model."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from sessions.api.session import Session
from sessions.client.arguments.usage import dimensions_in
from sessions.gateway.caller import Reader
from sessions.gateway.strict_json import StrictRoute

router = APIRouter(tags=["usage"], route_class=StrictRoute)
_ROW: Final[dict[str, Any]] = {
    "day": "2026-11-30",
    "user_id": "alice",
    "model": "openai:gpt-5",
    "requests": 12,
    "unpriced_requests": 0,
    "input_tokens": 18200,
    "cache_read_tokens": 12400,
    "cache_write_tokens": 0,
    "output_tokens": 2310,
    "tool_calls": 4,
    "cost": 0.0319,
}


class UsageRowResource(BaseModel):
    """What was used, for one day, user and model, as far as these were asked for."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [_ROW]})

    day: date | None = Field(description="On which the turns began (UTC); null if days are added up.")
    user_id: str | None = Field(
        description="Whose turns they were; null if users are added up, and for turns without a user."
    )
    model: str | None = Field(description="Provider and name; null if models are added up, and if it is not known.")
    requests: int = Field(description="Requests to models.")
    unpriced_requests: int = Field(description="Those whose price is not known: `cost` does not contain them.")
    input_tokens: int
    cache_read_tokens: int = Field(description="Of the input tokens: read from providers' prompt caches.")
    cache_write_tokens: int = Field(description="Of the input tokens: written to providers' prompt caches.")
    output_tokens: int
    tool_calls: int
    cost: float | None = Field(description="US dollars; null if no request has a known price.")


class UsageReport(BaseModel):
    """The rows, by day, user and model."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"usage": [_ROW]}, {"usage": []}]})

    usage: list[UsageRowResource]


@router.get("/v1/usage", summary="Show usage")
async def get_usage(
    caller: Reader,
    since: Annotated[
        date | None, Query(description="The first day (UTC); by default the last one.", examples=["2026-11-01"])
    ] = None,
    until: Annotated[
        date | None, Query(description="The last day (UTC), included; by default today.", examples=["2026-11-30"])
    ] = None,
    by: Annotated[
        str,
        Query(
            description="What to keep apart: any of `day`, `user`, `model`, with commas between; `total` for one row.",
            examples=["day,model"],
            json_schema_extra={"pattern": "^(total|(day|user|model)(,(day|user|model)){0,2})$"},
        ),
    ] = "day",
) -> UsageReport:
    """Of the user you act for; without a user, of the tenant. At most 400 days.

    A turn is counted when it ends, for the day on which it began, whether or not it succeeded.
    """
    rows = await Session.ausage(
        caller.user,
        since=since,
        until=until,
        by=dimensions_in(by),
        tenant=caller.principal.tenant,
        settings=caller.gateway.settings,
    )
    return UsageReport(usage=[UsageRowResource.model_validate(row) for row in rows])
