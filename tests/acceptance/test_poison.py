"""A turn that kills its worker every time: it is set aside, and no other turn is affected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessions import TurnStatus, errors
from sessions.store.dead_letters import dead_letters
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

NEIGHBOURS = 6
MAX_ATTEMPTS = 3


def test_a_poison_turn_becomes_a_dead_letter_and_its_neighbours_do_not(
    new_fleet: Callable[..., Fleet], capsys: pytest.CaptureFixture[str]
) -> None:
    """After `max_attempts` dead workers the turn is a dead letter; its session continues, its neighbours all end."""
    fleet = new_fleet(SESSIONFLEET_LEASE="2", SESSIONFLEET_MAX_ATTEMPTS=str(MAX_ATTEMPTS))
    fleet.start("worker0")
    fleet.ready()
    neighbours = [
        fleet.session(f"neighbour-{n}").Agent("A").submit(f"neighbour {n}\nHANG 0 60\nSLEEP 1\nSAY well")
        for n in range(NEIGHBOURS)
    ]
    fleet.noted("hung", NEIGHBOURS)  # the first worker cannot end them before it dies
    poisoned = fleet.session("poisoned").Agent("A", tools=["charge"])
    poison = poisoned.submit('CALL charge({"amount": 1})\nDIE 0.5')
    following = poisoned.submit("SAY next")
    wait_until(lambda: not fleet.workers[0].alive, description="the first worker dies", timeout=40)
    for number in range(1, MAX_ATTEMPTS + 1):  # one more than the poison may kill
        fleet.start(f"worker{number}")
    with pytest.raises(errors.TurnDeadLettered, match="3 times"):
        poison.result(timeout=40)

    assert following.result(timeout=40) == "next"
    assert [turn.result(timeout=60) for turn in neighbours] == ["well"] * NEIGHBOURS
    assert sum(worker.alive for worker in fleet.workers) == 1
    record = poison.record()
    crashes = [turn.record().crashes for turn in neighbours]
    with capsys.disabled():
        print(f"\npoison: {len(fleet.ledger('died'))} workers died, then dead-lettered; its {NEIGHBOURS} neighbours "
              f"lost their worker {crashes} times and all succeeded")  # fmt: skip
    assert (record.status, record.crashes) == (TurnStatus.DEAD_LETTERED, MAX_ATTEMPTS)
    assert record.attempt >= MAX_ATTEMPTS  # more where a lease ran out on a slow machine, which is no crash
    assert len(fleet.ledger("died")) == MAX_ATTEMPTS
    assert _dead(fleet) == [poison.id]
    assert min(crashes) >= 1, "not every neighbour was in flight on a killed worker: this proves nothing"


def _dead(fleet: Fleet) -> list[str]:
    async def look() -> list[str]:
        return [letter.turn_id for letter in await dead_letters(fleet.client.stores.redis, fleet.settings.partitions)]

    return fleet.client.portal.call(look())
