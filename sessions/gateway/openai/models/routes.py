"""`GET /v1/models`: the agents that a turn can name are the models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from sessions.errors import NotFound
from sessions.gateway.agents import ASSISTANT, canonical, directory_of, workers_of
from sessions.gateway.caller import Caller, Reader
from sessions.gateway.openai.models.responses import model, model_list
from sessions.gateway.strict_json import StrictRoute

router = APIRouter(route_class=StrictRoute, prefix="/v1/models")


@router.get("", name="list_models")
async def list_models(caller: Reader) -> dict[str, Any]:
    """The tenant's agents, those of the running workers, and the assistant that always exists."""
    return model_list(await _known(caller))


@router.get("/{name:anything}", name="retrieve_model")
async def retrieve_model(name: str, caller: Reader) -> dict[str, Any]:
    """One of them."""
    known = await _known(caller)
    for each, since in known.items():
        if canonical(each) == canonical(name):
            return model(each, since)
    raise NotFound(f"The model {name!r} does not exist", param="model", code="model_not_found")


async def _known(caller: Caller) -> dict[str, int]:
    """Their names, and since when they can be asked, in seconds since the epoch."""
    workers = await workers_of(caller)
    started = int(min((worker.started for worker in workers), default=0))
    found = {ASSISTANT: started}
    for name in sorted(await directory_of(caller).alist()):
        found[ASSISTANT if canonical(name) == canonical(ASSISTANT) else name] = started
    for worker in sorted(workers, key=lambda each: each.started):
        for name in worker.agents:
            found.setdefault(name, int(worker.started))
    return found
