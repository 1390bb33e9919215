"""What callers of the gateway may ask for, counted in the store, so that all gateways count together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sessions.store.scripts import ScriptRunner

RESERVATION: Final = 30.0
"""Seconds that an open request counts without being renewed."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A limit is reached; `wait` seconds later it may not be."""

    limit: Literal["rate", "concurrency"]
    wait: float


class LimitStore:
    """Rates and reservations, one base key (`limit_key`) for each caller."""

    def __init__(self, scripts: ScriptRunner, reservation: float = RESERVATION) -> None:
        self._scripts = scripts
        self._reservation_ms = int(reservation * 1000)

    async def admit(
        self, base: str, request: str, rate: int, concurrency: int, *, ended: Iterable[str] = ()
    ) -> Refused | None:
        """Count a request, in one round trip; None where it may go on.

        Args:
            request: an id of its own.
            rate: requests a minute; 0: no limit.
            concurrency: open requests; 0: no limit.
            ended: requests whose reservations are being given back.

        Raises:
            BackendError: the store did not answer; the request may be counted or not.
        """
        limits = (rate, concurrency, self._reservation_ms)
        reply = await self._scripts.run("admit_request", [base], request, *limits, *ended)
        match reply[0]:
            case b"ok":
                return None
            case b"rate":
                return Refused("rate", int(reply[1]) / 1000)
            case _:
                return Refused("concurrency", int(reply[1]) / 1000)

    async def renew(self, base: str, requests: Sequence[str]) -> None:
        """Keep reservations of open requests.

        Raises:
            BackendError: the store did not answer.
        """
        await self._scripts.run("renew_request", [base], self._reservation_ms, *requests)

    def end(self, base: str, request: str) -> asyncio.Future[Any]:
        """Give a reservation back, with the scripts of this tick; nobody need wait. Where that fails, it expires."""
        reply = self._scripts.start("end_request", [base], [request])
        reply.add_done_callback(_heard)
        return reply


def _heard(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled():
        reply.exception()
