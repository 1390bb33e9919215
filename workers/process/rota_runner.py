"""What a slot does with a wake-up: it runs the session that is next on the rota of the wake-up's queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import BackendError
from sessions.store.keys import SessionKeys
from sessions.store.rota import Rota
from sessions.store.wake_up import WakeUp
from workers.turns.runner import SessionRun, TurnRunner

_MOST_LOOKED_AT: Final = 20
_log = get_logger(__name__)


class RotaRunner:
    """Runs sessions in the order of the rota. One per worker process."""

    def __init__(self, rota: Rota, runner: TurnRunner, partitions: int) -> None:
        self._rota = rota
        self._runner = runner
        self._partitions = partitions

    async def run(self, wake_up: WakeUp) -> tuple[str, SessionRun]:
        """Run the session that is next, or the one that the wake-up names if nobody waits.

        Sessions that have nothing to run are passed over: their turns were cancelled, or another worker has them.

        Returns:
            The session that ran, or that was looked at last.

        Raises:
            InvalidSessionId: the wake-up names none.
        """
        SessionKeys.from_ref(wake_up.ref, self._partitions)
        ref, run = "", SessionRun(0, "draining")
        for _ in range(_MOST_LOOKED_AT):
            if self._runner.draining:
                break  # what is next keeps its place
            found = await self._next(wake_up, unused=ref)
            if found is None and ref:
                break
            ref = found or wake_up.ref
            run = await self._runner.run_session(ref, wake_up.queue)
            if run.began or found is None:
                break
            wake_up = replace(wake_up, in_rota=True)
        return ref or wake_up.ref, run

    async def _next(self, wake_up: WakeUp, *, unused: str) -> str | None:
        try:
            return await self._rota.next(wake_up, unused=unused)
        except BackendError as error:
            _log.warning("rota_not_read", session=wake_up.ref, error=str(error))
            return None
