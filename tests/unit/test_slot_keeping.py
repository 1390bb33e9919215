"""When a session goes on in its slot, and when others are asked first."""

from __future__ import annotations

from typing import cast

import pytest

from broker_config.settings import Settings
from sessions.errors import StoreUnavailable
from sessions.store.keys import SessionKeys
from sessions.store.leases import LeaseStore
from sessions.store.open_turn import OpenTurn
from sessions.store.rota import Rota
from workers.lease.held_turn import HeldTurn
from workers.turns.slot_keeping import may_go_on

KEYS = SessionKeys.of("t", "s", 256)


class _Rota:
    def __init__(self, answer: bool | Exception) -> None:
        self._answer = answer
        self.charged: list[int] = []

    async def keeps(self, queue: str, keys: SessionKeys, turns: int) -> bool:
        assert (queue, keys) == ("turns.vip", KEYS)
        self.charged.append(turns)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def held(served: int, behind: int) -> HeldTurn:
    turn = OpenTurn("p", "1:n", 1, b"", 10**15, 0, 1, 0, False, 0, 0, None, {}, [], b"", {}, behind=behind)
    made = HeldTurn(KEYS, turn, "n", 0.0, cast(LeaseStore, None), "turns.vip")
    made.served = served
    return made


async def goes_on(one: HeldTurn, rota: _Rota, **settings: float) -> bool:
    return await may_go_on(one, Settings(**settings), cast(Rota, rota))  # type: ignore[arg-type]


async def test_a_session_with_one_turn_asks_nobody() -> None:
    """Most have one, and must not pay for the others."""
    rota = _Rota(False)
    assert await goes_on(held(served=0, behind=0), rota)
    assert rota.charged == []


@pytest.mark.parametrize("answer", [True, False])
async def test_a_session_with_more_turns_asks_and_pays_for_each_once(answer: bool) -> None:
    """Also one whose turns arrive one by one while it runs; the first was paid for when it was taken."""
    rota, one = _Rota(answer), held(served=0, behind=1)
    for served in range(4):
        one.served = served
        assert await goes_on(one, rota) is answer
    assert await goes_on(one, rota) is answer, "the commit was sent again, for a message joined the turn"
    assert rota.charged == [0, 1, 1, 1, 0]
    late = _Rota(answer)
    assert await goes_on(held(served=1, behind=0), late) is answer
    assert late.charged == [1]


async def test_after_a_number_of_turns_or_seconds_it_gives_way_to_its_own_tenants_sessions() -> None:
    """Nobody is asked: they wait in the same line."""
    rota = _Rota(True)
    assert not await goes_on(held(served=9, behind=5), rota, turns_per_lease=10)
    long = held(served=1, behind=5)
    long.leased_since -= 100
    assert not await goes_on(long, rota)
    assert rota.charged == []


async def test_without_the_store_it_goes_on() -> None:
    """The commit waits for the store all the same."""
    assert await goes_on(held(served=0, behind=1), _Rota(StoreUnavailable("gone")))
