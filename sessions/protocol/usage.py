"""What a tenant or a user used: rows of sums."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

UsageDimension = Literal["day", "user", "model"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used, for one day, user and model, as far as these were asked for.

    Attributes:
        day: on which the turns began (UTC); None if days are added up.
        user_id: whose turns they were; None if users are added up, and for turns without a user.
        model: `provider:model`; None if models are added up, and if it is not known.
        requests: to models; unpriced_requests: those of them whose price is not known, so that `cost` lacks them.
        cache_read_tokens, cache_write_tokens: of the input tokens, how many came from or went to providers' prompt
            caches.
        cost: US dollars; None if no request has a known price.
    """

    day: date | None
    user_id: str | None
    model: str | None
    requests: int
    unpriced_requests: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    tool_calls: int
    cost: float | None


def known_cost(cost: float, requests: int, unpriced_requests: int) -> float | None:
    """The cost of requests, or None: the price of none of them is known."""
    return None if not cost and 0 < requests <= unpriced_requests else cost
