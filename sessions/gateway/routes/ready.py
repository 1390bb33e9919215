"""`GET /ready`: whether turns can run, for load balancers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from sessions.errors import NoWorkerAlive
from sessions.gateway.caller import gateway_of
from sessions.gateway.problems import responses
from sessions.store.deployment import check_writable

router = APIRouter(tags=["health"])


class Readiness(BaseModel):
    """The store answers, and a worker is running."""

    status: str = "ready"
    workers: int


@router.get("/ready", responses=responses(503), summary="Can turns run?")
async def readiness(request: Request) -> Readiness:
    """503 if the store does not answer or refuses writes, or if no worker is running."""
    client = (await gateway_of(request)).client

    async def look() -> int:
        await client.open()
        await check_writable(client.stores.redis)
        return len(await client.connection.workers(fresh=True))

    workers = await client.portal.acall(look())
    if not workers:
        raise NoWorkerAlive("no worker is running; turns are accepted, and wait for one")
    return Readiness(workers=workers)
