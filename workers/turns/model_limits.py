"""What this process knows about models whose calls are held back, and how its turns ask and wait.

As long as a process knows of none, its calls ask nobody. It learns of one from a refusal of its own, or within a second
from the store's reply to its report.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker_config.telemetry import get_logger
from sessions.errors import BackendError
from sessions.store.model_limits import ModelLimitStore
from workers.engine.ports import ModelLimit
from workers.lease.held_turn import HeldTurn

_log = get_logger(__name__)


class ModelLimiter:
    """One per worker process."""

    def __init__(self, store: ModelLimitStore) -> None:
        self._store = store
        self._held_back: dict[str, int] = {}  # with the number of refusals that this process was told of

    def learn(self, models: Iterable[str]) -> None:
        """Note models whose calls are held back."""
        for model in models:
            self._held_back.setdefault(model, 0)

    def of(self, held: HeldTurn) -> TurnModelLimits:
        """The limiter as the engine sees it while this turn runs."""
        return TurnModelLimits(self, _name(held))

    async def pause(self, held: HeldTurn, limit: ModelLimit) -> float | None:
        """Give the turn a place among those that wait for the model, and return after how many seconds it comes back.

        None if the store does not answer: then the turn waits as after any other transient error.
        """
        try:
            return await self._store.queue(
                limit.model, _name(held), first=limit.asked, patience=max(0.0, held.seconds_left)
            )
        except BackendError as error:
            _log.warning("model_limit_not_read", error=str(error))
            return None

    async def wait(self, model: str, turn: str) -> float:
        """How long this turn has to wait before it may call the model, in seconds; 0 if it may call it now.

        Raises:
            BackendError: the store did not answer.
        """
        refusals = self._held_back.get(model)
        if refusals is None:
            return 0.0
        wait = await self._store.admit(model, turn)
        if wait is None and self._held_back.get(model) == refusals:  # else it was refused again meanwhile
            del self._held_back[model]
        return wait or 0.0

    async def close(self, model: str, seconds: float) -> None:
        """Hold back the fleet's calls to the model. If the store does not answer, only this process knows."""
        self._held_back[model] = self._held_back.get(model, 0) + 1
        try:
            await self._store.close(model, seconds)
        except BackendError as error:
            _log.warning("model_limit_not_shared", error=str(error))


class TurnModelLimits:
    """`workers.engine.ports.ModelLimits` for one turn."""

    def __init__(self, limiter: ModelLimiter, turn: str) -> None:
        self._limiter = limiter
        self._turn = turn

    async def wait(self, model: str) -> float:
        """How long this turn has to wait before it may call the model, in seconds."""
        return await self._limiter.wait(model, self._turn)

    async def close(self, model: str, seconds: float) -> None:
        """Hold back the fleet's calls to the model for so long."""
        await self._limiter.close(model, seconds)


def _name(held: HeldTurn) -> str:
    return f"{held.keys.ref}~{held.turn.part}"
