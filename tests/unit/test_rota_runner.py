"""What a slot does with a wake-up, step by step, where clients and workers may have died in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from sessions.errors import InvalidSessionId, StoreUnavailable
from sessions.store.rota import Rota
from sessions.store.wake_up import WakeUp
from workers.process.rota_runner import RotaRunner
from workers.turns.runner import SessionRun, TurnRunner

WAKE_UP = WakeUp("t:named", "turns", 1, in_rota=True)


class _Rota:
    """Has these sessions next."""

    def __init__(self, *waiting: str, gone: bool = False) -> None:
        self.waiting = list(waiting)
        self.asked: list[tuple[bool, str]] = []
        self._gone = gone

    async def next(self, wake_up: WakeUp, *, unused: str) -> str | None:
        self.asked.append((wake_up.in_rota, unused))
        if self._gone:
            raise StoreUnavailable("gone")
        return self.waiting.pop(0) if self.waiting else None


class _Runner:
    """These sessions have turns to run."""

    def __init__(self, *due: str, draining: bool = False) -> None:
        self._due = due
        self.draining = draining
        self.looked_at: list[str] = []

    async def run_session(self, ref: str, queue: str) -> SessionRun:
        assert queue == "turns"
        self.looked_at.append(ref)
        return SessionRun(1, "done", began=True) if ref in self._due else SessionRun(0, "empty")


async def run(rota: _Rota, runner: _Runner, wake_up: WakeUp = WAKE_UP) -> tuple[str, Sequence[str], str]:
    ref, ran = await RotaRunner(cast(Rota, rota), cast(TurnRunner, runner), 256).run(wake_up)
    return ref, runner.looked_at, ran.why


async def test_the_session_that_is_next_runs_and_not_the_one_that_is_named() -> None:
    """One place for one wake-up: the others keep theirs."""
    rota = _Rota("b:first", "t:named")
    assert await run(rota, _Runner("b:first", "t:named")) == ("b:first", ["b:first"], "done")
    assert rota.waiting == ["t:named"]


async def test_sessions_without_turns_are_passed_over() -> None:
    """They were cancelled, or another worker has them; their tenants are hardly charged."""
    rota = _Rota("a:gone", "a:busy", "b:due", "c:later")
    assert await run(rota, _Runner("b:due", "c:later")) == ("b:due", ["a:gone", "a:busy", "b:due"], "done")
    assert [unused for _, unused in rota.asked] == ["", "a:gone", "a:busy"]


async def test_a_wake_up_too_many_finds_nobody_and_looks_at_the_session_that_it_names() -> None:
    """A duplicate costs a look. If the session's place was lost, and nothing else, it runs at once."""
    assert await run(_Rota(), _Runner()) == ("t:named", ["t:named"], "empty")
    assert await run(_Rota(), _Runner("t:named")) == ("t:named", ["t:named"], "done")


async def test_after_the_last_of_those_that_wait_the_slot_is_free() -> None:
    """What the wake-up names is not looked at again: it has no place, so it does not wait."""
    assert await run(_Rota("a:gone"), _Runner()) == ("a:gone", ["a:gone"], "empty")


async def test_a_wake_up_of_an_older_client_enters_its_session_once() -> None:
    """And not again for each session that is passed over."""
    rota = _Rota("a:gone", "t:named")
    await run(rota, _Runner("t:named"), WakeUp("t:named", "turns", 1))
    assert [in_rota for in_rota, _ in rota.asked] == [False, True]


async def test_without_the_rota_the_session_that_is_named_is_tried() -> None:
    """The runner finds out whether the store is back, and what to do about it."""
    assert await run(_Rota(gone=True), _Runner("t:named")) == ("t:named", ["t:named"], "done")


async def test_a_worker_that_shuts_down_takes_nobodys_place() -> None:
    """Another worker runs them."""
    rota = _Rota("a:one")
    assert await run(rota, _Runner("a:one", draining=True)) == ("t:named", [], "draining")
    assert rota.waiting == ["a:one"]


async def test_a_slot_does_not_look_for_ever() -> None:
    """Thousands of cancelled turns are passed over by many wake-ups."""
    runner = _Runner()
    await run(_Rota(*(f"a:s{number}" for number in range(1_000))), runner)
    assert len(runner.looked_at) == 20


async def test_what_is_no_session_is_refused_before_it_gets_into_the_rota() -> None:
    """Something else wrote to the queue."""
    rota = _Rota("a:one")
    with pytest.raises(InvalidSessionId):
        await run(rota, _Runner(), WakeUp("no session", "turns", 1))
    assert rota.asked == []
