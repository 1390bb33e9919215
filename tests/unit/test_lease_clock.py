"""The clock that leases are measured by."""

from __future__ import annotations

import sys
import time

import pytest

from workers.lease.lease_clock import lease_time


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such clock")
def test_the_time_that_a_machine_sleeps_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that wakes up with its machine must see that its leases have ended."""
    slept = 3600.0
    awake = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: awake(clock) + slept * (clock == time.CLOCK_BOOTTIME))
    before = time.monotonic()
    assert lease_time() >= before + slept
