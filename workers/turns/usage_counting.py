"""What a turn adds to the usage of its tenant, user and models when it ends."""

from __future__ import annotations

from broker_config.settings import Settings
from sessions.protocol.turn import ModelUsage
from sessions.store.usage_counters import Spending, day_of
from workers.engine.prices import PriceList
from workers.engine.usage import usage_by_model
from workers.lease.held_turn import HeldTurn


def spending_of(held: HeldTurn, cut_short: ModelUsage | None, prices: PriceList, settings: Settings) -> Spending | None:
    """What the turn used, for the day on which it began; None if that is nothing.

    The turns of other agents that it asked, or of a team's tasks, count for themselves.

    Args:
        cut_short: of a request that is not in the turn's journal.
    """
    if not settings.usage_days:
        return None
    used = usage_by_model(held.steps, prices, cut_short)
    day = day_of(held.turn.first_started_ms)
    return Spending.of(held.keys.tenant, held.turn.user_id, day, used, settings.usage_days)
