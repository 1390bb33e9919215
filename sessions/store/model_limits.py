"""Calls to models whose providers refuse them for a rate limit: held back for the whole fleet, then started gradually.

A model is named by a digest of provider, model and API key. While nothing is held back, nothing here is called.
"""

from __future__ import annotations

import random
from typing import Final

from sessions.store.keys import FLEET
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions import fleet as transitions

LONGEST_PAUSE: Final = 600.0
"""Seconds. A provider that names a longer pause is asked once after this one, because the name may be a mistake."""


class ModelLimitStore:
    """The limiters of the fleet. All times are in seconds.

    Every method raises `BackendError` if the store did not answer.
    """

    def __init__(self, scripts: ScriptRunner) -> None:
        self._scripts = scripts

    async def close(self, model: str, pause: float) -> None:
        """Hold back all calls to the model, because its provider wants none for so long."""
        pause_ms = int(min(pause, LONGEST_PAUSE) * 1000)
        await self._scripts.run(transitions.close_model((FLEET,), model=model, pause_ms=pause_ms))

    async def admit(self, model: str, turn: str) -> float | None:
        """How long the turn's call has to wait: 0 if it may start; None if nothing is held back any more."""
        match await self._scripts.run(transitions.admit_model_call((FLEET,), model=model, turn=turn)):
            case transitions.Held(wait_ms=wait_ms):
                return wait_ms / 1000
            case transitions.Started():
                return 0.0
            case transitions.Free():
                return None

    async def queue(self, model: str, turn: str, *, first: bool, patience: float) -> float:
        """Give the turn a place among those that wait, and return when it is to come back.

        Args:
            first: the provider refused this turn's own call, so it comes before those that have not been sent yet.
            patience: how long the turn can wait. It gets no place if that is not long enough.
        """
        call = transitions.queue_for_model(
            (FLEET,),
            model=model,
            turn=turn,
            first=first,
            jitter=random.random(),  # noqa: S311 - it spreads calls over time
            patience_ms=int(patience * 1000),
        )
        return (await self._scripts.run(call)).wait_ms / 1000
