"""Many turns on several workers while everything that can fail does, at random; a seed repeats a run.

SF_CHAOS_SECONDS says how long faults happen, SF_CHAOS_SEED which ones; `make chaos` runs the long form.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.campaign import ENVIRONMENT, Campaign
from tests.support.fleet import Fleet
from tests.support.servers import Server, running

SECONDS = float(os.environ.get("SF_CHAOS_SECONDS", "6"))
LONG = SECONDS >= 60
SEED = int(os.environ.get("SF_CHAOS_SEED", "0")) or time.time_ns() % 1_000_000 + 1


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose server keeps everything that it acknowledged, even when it is killed."""
    with running(Server(tmp_path / "server", options=("--appendfsync", "always"))) as server:
        fleet = Fleet(tmp_path / "fleet", server, ENVIRONMENT)
        try:
            yield fleet
        finally:
            fleet.close()


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_nothing_is_lost_doubled_or_out_of_order_whatever_fails(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed, stopped and frozen workers, a restarted server, a flushed broker, bad messages, cancels, slow writes."""
    campaign = Campaign(fleet, SEED, seconds=SECONDS, sessions=20 if LONG else 6, workers=4 if LONG else 3)
    with capsys.disabled():
        print(f"\ncampaign with SF_CHAOS_SEED={SEED}")
    campaign.run()
    happened = f"{campaign.turns} turns, {campaign.faults.total()} faults: {dict(campaign.faults)}"
    with capsys.disabled():
        print(f"{happened}; seconds: {campaign.took}")
    campaign.check()
