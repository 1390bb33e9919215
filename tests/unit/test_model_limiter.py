"""What a worker process knows about models whose calls are held back."""

from __future__ import annotations

from typing import cast

from sessions.errors import StoreUnavailable
from sessions.store.model_limits import ModelLimitStore
from workers.turns.model_limits import ModelLimiter


class Store:
    """Answers what it is told to; `asked` are the models that it was asked about."""

    def __init__(self) -> None:
        self.answer: float | None = None
        self.down = False
        self.asked: list[str] = []
        self.closed: list[str] = []
        self.meanwhile = ""

    async def admit(self, model: str, turn: str) -> float | None:
        self.asked.append(model)
        if self.meanwhile:
            await self.limiter.close(self.meanwhile, 5)
        return self.answer

    async def close(self, model: str, pause: float) -> None:
        if self.down:
            raise StoreUnavailable("down")
        self.closed.append(model)

    limiter: ModelLimiter


def made() -> tuple[Store, ModelLimiter]:
    store = Store()
    store.limiter = ModelLimiter(cast(ModelLimitStore, store))
    return store, store.limiter


async def test_as_long_as_nothing_is_held_back_the_store_is_not_asked() -> None:
    """A call costs no round trip, of any model, until this process hears of one; and none after its limiter is gone."""
    store, limiter = made()
    assert await limiter.wait("m", "t") == 0.0
    limiter.learn(["other"])
    assert await limiter.wait("m", "t") == 0.0
    assert store.asked == []
    limiter.learn(["m"])
    store.answer = 7.0
    assert await limiter.wait("m", "t") == 7.0
    store.answer = None
    assert [await limiter.wait("m", "t") for _ in range(3)] == [0.0] * 3
    assert store.asked == ["m", "m"]


async def test_a_refusal_while_the_store_is_asked_is_not_forgotten() -> None:
    """The answer is older than the refusal."""
    store, limiter = made()
    limiter.learn(["m"])
    store.meanwhile = "m"
    assert await limiter.wait("m", "t") == 0.0
    store.meanwhile, store.answer = "", 5.0
    assert await limiter.wait("m", "t") == 5.0


async def test_an_outage_of_the_store_does_not_hide_the_refusal() -> None:
    """The turn goes on with the provider's error; this process asks before its next call."""
    store, limiter = made()
    store.down = True
    await limiter.close("m", 5)
    store.answer = 3.0
    assert await limiter.wait("m", "t") == 3.0
