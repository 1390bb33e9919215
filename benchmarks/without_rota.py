"""Workers and clients that do without the rota: each wake-up runs the session that it names. For comparison only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sessions.store.rota import Rota
from sessions.store.wake_up import WakeUp

WITHOUT_ROTA = "BENCHMARK_WITHOUT_ROTA"
"""Set in the environment of workers that do without."""


@contextlib.contextmanager
def no_rota() -> Iterator[None]:
    """Publish wake-ups without a place, and take none, while the block runs in this process."""

    async def join(self: Rota, wake_up: WakeUp) -> None:
        return None

    async def nobody(self: Rota, wake_up: WakeUp, *, unused: str = "") -> str | None:
        return None

    kept = Rota.join, Rota.next
    Rota.join, Rota.next = join, nobody  # type: ignore[method-assign]
    try:
        yield
    finally:
        Rota.join, Rota.next = kept  # type: ignore[method-assign]
