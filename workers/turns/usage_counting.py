"""What a turn adds to the usage of its tenant, user and models when it ends."""

from __future__ import annotations

from broker_config.settings import Settings
from sessions.protocol.turn import TurnStatus
from sessions.store.leases import Ending
from sessions.store.usage_counters import Spending, day_of
from workers.engine.prices import PriceList
from workers.engine.usage import usage_by_model
from workers.lease.held_turn import HeldTurn


def spending_of(held: HeldTurn, ending: Ending, prices: PriceList, settings: Settings) -> Spending | None:
    """What the journal shows that the turn used, for the day on which it began; None if that is nothing.

    The turns of other agents that it asked, or of a team's tasks, count for themselves.
    """
    if not settings.usage_days:
        return None
    cut_short = None if ending.status is TurnStatus.SUCCEEDED else held.state.partial_usage
    used = usage_by_model(held.steps, prices, cut_short)
    day = day_of(held.turn.first_started_ms)
    return Spending.of(held.keys.tenant, held.turn.user_id, day, used, settings.usage_days)
