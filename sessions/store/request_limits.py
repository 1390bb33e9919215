"""The requests of the gateway's callers, counted in the store, so that all gateways count together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sessions.store.scripts import ScriptRunner
from sessions.store.transitions import fleet as transitions

RESERVATION: Final = 30.0
"""Seconds for which an open request counts without being renewed."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A limit is reached; `wait` seconds later it may not be."""

    limit: Literal["rate", "concurrency"]
    wait: float


class LimitStore:
    """Rates and reservations, with one base key (`limit_key`) per caller."""

    def __init__(self, scripts: ScriptRunner, reservation: float = RESERVATION) -> None:
        self._scripts = scripts
        self._reservation_ms = int(reservation * 1000)

    async def admit(
        self, base: str, request: str, rate: int, concurrency: int, *, ended: Iterable[str] = ()
    ) -> Refused | None:
        """Count a request, in one round trip; None if it is admitted.

        Args:
            request: its id.
            rate: requests per minute; 0: no limit.
            concurrency: open requests; 0: no limit.
            ended: requests whose reservations are being given back.

        Raises:
            BackendError: the store did not answer; the request may be counted or not.
        """
        call = transitions.admit_request(
            (base,),
            request=request,
            rate=rate,
            concurrency=concurrency,
            reservation_ms=self._reservation_ms,
            ended=tuple(ended),
        )
        match await self._scripts.run(call):
            case transitions.Admitted():
                return None
            case transitions.Rate(wait_ms=wait_ms):
                return Refused("rate", wait_ms / 1000)
            case transitions.Concurrency(wait_ms=wait_ms):
                return Refused("concurrency", wait_ms / 1000)

    async def renew(self, base: str, requests: Sequence[str]) -> None:
        """Renew the reservations of open requests.

        Raises:
            BackendError: the store did not answer.
        """
        call = transitions.renew_request((base,), reservation_ms=self._reservation_ms, requests=requests)
        await self._scripts.run(call)

    def end(self, base: str, request: str) -> asyncio.Future[Any]:
        """Release a reservation, with the scripts of this tick; no need to wait for it. If that fails, it expires."""
        reply = self._scripts.start(transitions.end_request((base,), request=request))
        reply.add_done_callback(_retrieved)
        return reply


def _retrieved(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled():
        reply.exception()
