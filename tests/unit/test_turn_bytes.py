"""A turn has room for many steps, and ends with an error that says why before the store could refuse its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from sessions.errors import ResultTooLarge
from sessions.store.keys import SessionKeys
from sessions.store.leases import LeaseStore, StepReply
from tests.unit.test_worker_memory import BEGUN
from workers.lease import journal as leased
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal


class _Leases:
    """Takes every step."""

    def record(self, keys: Any, turn: Any, key: str, value: bytes, seq: int, events: Any, files: Sequence[str]) -> Any:
        return self

    async def done(self) -> StepReply:
        return StepReply.OK


async def test_all_steps_of_a_turn_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of earlier attempts."""
    monkeypatch.setattr(leased, "TURN_BYTES", 1_000)
    begun = replace(BEGUN, journal={"model:1": b"x" * 400})
    held = HeldTurn(SessionKeys.of("t", "s", 1), begun, "nonce", 0.0, cast(LeaseStore, None))
    journal = LeasedJournal(cast(LeaseStore, _Leases()), held)
    await journal.record("tool:1", b"y" * 500)
    with pytest.raises(ResultTooLarge, match=r"1,001 bytes together.*1,000"):
        await journal.record("model:2", b"z" * 101)
    assert journal.lookup("model:2") is None
    await journal.record("model:2", b"z" * 100)
