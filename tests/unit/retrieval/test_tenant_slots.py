"""One tenant's slow documents do not keep another tenant's from being read."""

from __future__ import annotations

import asyncio

from workers.retrieval.tenant_slots import SLOTS, SLOTS_PER_TENANT, TenantSlots


async def test_a_tenant_with_many_documents_leaves_a_place_for_others() -> None:
    """Ten that never end, and one of another tenant, which is read at once."""
    slots, reading = TenantSlots(), []
    release = asyncio.Event()

    async def read(tenant: str) -> None:
        async with slots.slot(tenant):
            reading.append(tenant)
            if tenant == "greedy":
                await release.wait()

    slow = [asyncio.create_task(read("greedy")) for _ in range(10)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await read("other")
    assert reading == ["greedy"] * SLOTS_PER_TENANT + ["other"]
    release.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*slow)
    assert reading.count("greedy") == 10
    assert slots._lines == slots._users == {}


async def test_all_together_take_no_more_than_the_places() -> None:
    """Each takes a process; and one that is cancelled while it waits takes none."""
    slots = TenantSlots()
    now, most = 0, 0

    async def read(tenant: str) -> None:
        nonlocal now, most
        async with slots.slot(tenant):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1

    tasks = [asyncio.create_task(read(f"t{n % 5}")) for n in range(30)]
    await asyncio.sleep(0)
    tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == SLOTS
    assert slots._lines == {}
