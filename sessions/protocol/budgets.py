"""Budgets: how many tokens, and how many US dollars, may be spent on what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NANO: Final = 1_000_000_000


class BudgetScope(StrEnum):
    """What a budget is for. That of a user or a tenant is for one day (UTC)."""

    TURN = "turn"
    SESSION = "session"
    USER = "user"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent; None for no limit.

    Attributes:
        tokens: input and output tokens.
        cost: US dollars.
    """

    tokens: int | None = None
    cost: float | None = None

    @property
    def limits(self) -> bool:
        """Whether it limits anything."""
        return self.tokens is not None or self.cost is not None

    @property
    def nanodollars(self) -> int | None:
        """`cost` as it is counted."""
        return None if self.cost is None else nanodollars(self.cost)


NO_BUDGET: Final = Budget()


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and money, as budgets count them."""

    tokens: int = 0
    nanodollars: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.tokens + other.tokens, self.nanodollars + other.nanodollars)


def nanodollars(dollars: float) -> int:
    """An amount of US dollars, to the nearest billionth."""
    return round(dollars * NANO)
