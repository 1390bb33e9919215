"""A process runs at most one turn on its last attempt at a time: a crash must not put two into the dead letters.

Each commit says whether the session's next turn may be started if it is on its last attempt.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from broker_config.settings import Settings
from sessions.errors import StoreUnavailable
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.leases import Committed, Ending, LeaseStore
from sessions.store.open_turn import OpenTurn
from workers.engine.prices import PriceList
from workers.lease.held_turn import HeldTurn
from workers.lease.lease_clock import lease_time
from workers.turns.parts import TurnParts
from workers.turns.runner import TurnRunner


def _turn(part: str) -> OpenTurn:
    return OpenTurn(part, "1:n", 1, b"", 10**15, 0, 1, 0, True, 0, 0, None, {}, [], b"", {})


class _Leases:
    """Is unreachable for the first commit; meanwhile another session's turn starts its last attempt."""

    def __init__(self) -> None:
        self.last_ok: list[bool] = []
        self.runner: TurnRunner | None = None

    async def commit(self, *_: Any, last_ok: bool, **__: Any) -> Committed:
        self.last_ok.append(last_ok)
        if len(self.last_ok) == 1:
            assert self.runner is not None
            assert self.runner._may_run_last_attempt(_held("other", cast(LeaseStore, self)))
            raise StoreUnavailable("gone for a moment")
        return Committed(TurnStatus.SUCCEEDED)


def _held(nonce: str, leases: LeaseStore) -> HeldTurn:
    return HeldTurn(SessionKeys.of("t", nonce, 256), _turn(nonce), nonce, lease_time() + 60, leases)


async def test_a_commit_that_is_repeated_asks_again_whether_a_last_attempt_may_start() -> None:
    """An outage outlasts the first answer: by its end, another turn may be on its last attempt here."""
    leases = _Leases()
    archive = SimpleNamespace(effect=lambda held, ending: b"")
    engine = SimpleNamespace(prices=PriceList())
    parts = SimpleNamespace(
        settings=Settings(),
        leases=leases,
        archive=archive,
        engine=engine,
        rota=None,
        packing=SimpleNamespace(after=lambda keys, turn: None),
    )
    leases.runner = runner = TurnRunner(cast(TurnParts, parts))
    assert not await runner._commit(_held("own", cast(LeaseStore, leases)), Ending(TurnStatus.SUCCEEDED))
    assert leases.last_ok == [True, False]


def test_of_two_turns_that_commits_started_at_the_same_time_one_is_given_back() -> None:
    """Both commits were sent while no turn was on its last attempt, so the runner looks again before it runs one."""
    runner = TurnRunner(cast(TurnParts, SimpleNamespace(settings=Settings())))
    first, second = (_held(nonce, cast(LeaseStore, None)) for nonce in ("a", "b"))
    assert runner._may_run_last_attempt(first)
    assert not runner._may_run_last_attempt(second)
    runner._free_last_attempt(first)
    assert runner._may_run_last_attempt(second)
