"""`POST /v1/ag-ui/{agent}`: one run."""

from __future__ import annotations

from ag_ui.core import RunAgentInput
from fastapi import APIRouter, Request, Response

from sessions.gateway import segments  # noqa: F401 - defines `anything`
from sessions.gateway.ag_ui.requests import new_in
from sessions.gateway.ag_ui.stream import RunStream
from sessions.gateway.ag_ui.turns import run_for
from sessions.gateway.caller import Writer
from sessions.gateway.streams import data_stream
from sessions.gateway.strict_json import StrictRoute

router = APIRouter(route_class=StrictRoute)


@router.post("/v1/ag-ui/{agent:anything}", name="run_agent")
async def run_agent(agent: str, body: RunAgentInput, caller: Writer, request: Request) -> Response:
    """A turn, the rest of one that waited for its client, or the open one again."""
    run = await run_for(caller, body, agent, new_in(body))
    return data_stream(RunStream(request, body, run).events(), run.part or body.thread_id)


ROUTERS = (router,)
