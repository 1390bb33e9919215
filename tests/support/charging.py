"""Turns that charge an amount, sent while something happens to the store: each must be done once."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sessions import Turn
from sessions.errors import StoreUnavailable
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def charges_through(fleet: Fleet, turns: int, happens: Callable[[], object]) -> None:
    """Four threads send turns to ten sessions; something happens after a third of them. Nothing may be lost by it."""
    sent, due = Counter[str](), threading.Event()

    def send(number: int) -> Turn:
        turn = _charge(fleet, number)
        sent["turns"] += 1
        if sent["turns"] >= turns // 3:
            due.set()
        return turn

    with ThreadPoolExecutor(5) as threads:
        happening = threads.submit(lambda: due.wait(60) and happens())
        accepted = list(threads.map(send, range(turns)))
        happening.result()
    assert [_result(turn) for turn in accepted] == [f"ok: charged {n}" for n in range(turns)]
    assert Counter(line["amount"] for line in fleet.ledger("charge")) == Counter(range(turns))
    assert sum(turn.record().crashes for turn in accepted) == 0
    for worker in fleet.workers:
        assert worker.alive, worker.log[-3000:]
        assert "Unrecoverable" not in worker.log


def _result(turn: Turn) -> object:
    """If the store does not answer, it is asked again: the turn continues."""

    def ended() -> object:
        try:
            return turn.result(timeout=60)
        except StoreUnavailable:
            return None

    return wait_until(ended, description=f"{turn.id} has ended", timeout=90)


def _charge(fleet: Fleet, number: int) -> Turn:
    """Where the store refuses, the message is sent again with its key, until it is accepted."""
    agent, key = fleet.session(f"s{number % 10}").Agent("A", tools=["charge"]), uuid.uuid4().hex

    def accepted() -> Turn | None:
        try:
            return agent.submit(f'CALL charge({{"amount": {number}, "seconds": 0.05}})', idempotency_key=key)
        except StoreUnavailable:
            return None

    return wait_until(accepted, description=f"turn {number} is accepted", timeout=60)
