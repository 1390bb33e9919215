"""The rota of a Celery queue: which session gets the next slot, whatever wake-up arrives (ADR 0046).

A wake-up stands for one place in the rota, and not for the session that it names. So tenants share the slots by their
weights, however many wake-ups each has in the queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from broker_config.celery_options import RESCUE_SUFFIX
from sessions.store.keys import SessionKeys, rota_key
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.transitions.rota import Next, Slot, join_rota, keep_slot, next_on_rota, overdue_on_rota
from sessions.store.wake_up import WakeUp

_AT_ONCE: Final = 500
_WAITED_MS: Final = 1_500  # a wake-up that is on its way arrives sooner
_WEIGHTS_KEPT: Final = 7 * 24 * 3600


class Rota:
    """The rotas of all queues. A rescue queue has the rota of its queue.

    Every method raises `BackendError` if the store did not answer.
    """

    def __init__(self, scripts: ScriptRunner, client: Any) -> None:
        self._scripts = scripts
        self._client = client

    async def join(self, wake_up: WakeUp) -> None:
        """Enter the session of a wake-up at the end of its tenant's line, if it is not in the rota."""
        call = join_rota(_keys(wake_up.queue), at_ms=wake_up.accepted_ms, first=False, sessions=[wake_up.ref])
        await self._scripts.run(call)

    async def join_first(self, queue: str, refs: Sequence[str], at_ms: int) -> list[str]:
        """Enter sessions before the others of their tenants; returns those that were not in the rota."""
        new: list[str] = []
        for start in range(0, len(refs), _AT_ONCE):
            some = refs[start : start + _AT_ONCE]
            joined = await self._scripts.run(join_rota(_keys(queue), at_ms=at_ms, first=True, sessions=some))
            new += joined.new
        return new

    async def next(self, wake_up: WakeUp, *, unused: str = "") -> str | None:
        """Take the session that comes next; None if nobody waits.

        Args:
            wake_up: the one that arrived. Its session is entered first, if nobody has done that.
            unused: the session that was taken before, if it had nothing to run.
        """
        call = next_on_rota(
            _keys(wake_up.queue),
            session="" if wake_up.in_rota else wake_up.ref,
            at_ms=wake_up.accepted_ms,
            unused=unused.partition(":")[0],
        )
        reply = await self._scripts.run(call)
        return reply.session if isinstance(reply, Next) else None

    async def keeps(self, queue: str, keys: SessionKeys, turns: int) -> bool:
        """Whether a session may go on with its next turn in its slot; False if another tenant comes first.

        Args:
            turns: those that it has begun in this slot and that its tenant was not charged for.
        """
        tenant = keys.ref.partition(":")[0]
        return await self._scripts.run(keep_slot(_keys(queue), tenant=tenant, turns=turns)) is Slot.KEEP

    async def overdue(self, queue: str, most: int) -> list[WakeUp]:
        """Wake-ups for some sessions that have waited for a while, if the queue has none; to one worker in a second."""
        found = await self._scripts.run(overdue_on_rota(_keys(queue), waited_ms=_WAITED_MS, most=most))
        return [WakeUp(ref, _plain(queue) + RESCUE_SUFFIX, found.now_ms, in_rota=True) for ref in found.sessions]

    async def queue_of(self, keys: SessionKeys) -> str | None:
        """The queue in whose rota a session is, if it waits; None if there is no such session."""
        with translated():
            queue = await self._client.hget(keys.meta, "queue")
        return None if queue is None else queue.decode()

    async def leave(self, queue: str, keys: SessionKeys) -> None:
        """Take a session that is deleted out of the rota."""
        with translated():
            await self._client.zrem(_line(queue, keys.ref.partition(":")[0]), keys.ref)

    async def set_weights(self, queue: str, weights: Mapping[str, float]) -> None:
        """Replace the weights of tenants (by their escaped names). All others have the weight 1."""
        key = f"{rota_key(_plain(queue))}:weights"
        with translated():
            pipe = self._client.pipeline(transaction=False)
            pipe.delete(key)
            if weights:
                pipe.hset(key, mapping=dict(weights))
                pipe.expire(key, _WEIGHTS_KEPT)
            await pipe.execute()

    async def waiting(self, queue: str) -> dict[str, int]:
        """How many sessions of each tenant (by its escaped name) wait for a slot."""
        with translated():
            names = [name.decode() for name in await self._client.zrange(f"{rota_key(_plain(queue))}:tenants", 0, -1)]
            pipe = self._client.pipeline(transaction=False)
            for name in names:
                pipe.zcard(_line(queue, name))
            return dict(zip(names, await pipe.execute(), strict=True))


def _plain(queue: str) -> str:
    return queue.removesuffix(RESCUE_SUFFIX)


def _keys(queue: str) -> tuple[str]:
    return (rota_key(_plain(queue)),)


def _line(queue: str, tenant: str) -> str:
    return f"{rota_key(_plain(queue))}:waiting~{tenant}"
