"""One tenant's slow documents do not keep another tenant's from being read."""

from __future__ import annotations

import asyncio

from workers.retrieval.tenant_slots import PLACES, PLACES_OF_A_TENANT, FairPlaces


async def test_a_tenant_with_many_documents_leaves_a_place_for_others() -> None:
    """Ten that never end, and one of somebody else's, which is read at once."""
    places, reading = FairPlaces(), []
    release = asyncio.Event()

    async def read(tenant: str) -> None:
        async with places.place(tenant):
            reading.append(tenant)
            if tenant == "greedy":
                await release.wait()

    slow = [asyncio.create_task(read("greedy")) for _ in range(10)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await read("other")
    assert reading == ["greedy"] * PLACES_OF_A_TENANT + ["other"]
    release.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*slow)
    assert reading.count("greedy") == 10
    assert places._lines == places._users == {}


async def test_all_together_take_no_more_than_the_places() -> None:
    """Each takes a process; and whoever is cancelled while it waits takes none."""
    places = FairPlaces()
    now, most = 0, 0

    async def read(tenant: str) -> None:
        nonlocal now, most
        async with places.place(tenant):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1

    tasks = [asyncio.create_task(read(f"t{n % 5}")) for n in range(30)]
    await asyncio.sleep(0)
    tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == PLACES
    assert places._lines == {}
