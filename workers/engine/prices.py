"""The cost of model responses in US dollars: by the deployment's own prices, and by pydantic-ai's price list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Final

from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage

from sessions.protocol.turn import ModelUsage

_REMEMBERED: Final = 1024
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens.

    Attributes:
        input, output: of tokens that are sent and received.
        cache_read, cache_write: of input tokens that came from or went to the provider's prompt cache; None for the
            price of other input tokens.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    def cost(self, usage: RequestUsage) -> float:
        """US dollars for one response; the tokens of the cache are a part of the input tokens."""
        cached, written = usage.cache_read_tokens, usage.cache_write_tokens
        spent = max(0, usage.input_tokens - cached - written) * self.input + usage.output_tokens * self.output
        spent += cached * (self.input if self.cache_read is None else self.cache_read)
        spent += written * (self.input if self.cache_write is None else self.cache_write)
        return spent / _MILLION


_FREE: Final = {"offline": Price(input=0.0, output=0.0)}
"""The built-in model runs in the worker."""


class PriceList:
    """What models cost. The deployment's own prices (SESSIONFLEET_PRICES) come first."""

    def __init__(self, own: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self._own = {**_FREE, **{model: Price(**parts) for model, parts in (own or {}).items()}}
        # A response is priced twice: when its turn's answer is made, and from the journal when the turn is committed.
        self._found: dict[tuple[object, ...], float | None] = {}
        self._without: set[tuple[str | None, str | None]] = set()

    def cost(self, provider: str | None, model: str | None, usage: RequestUsage) -> float | None:
        """The cost of one response in US dollars; None if the model's price is not known."""
        if (own := self._own.get(named(provider, model)) or self._own.get(model or "")) is not None:
            return own.cost(usage)
        if (provider, model) in self._without or provider is None or model is None:
            return None
        key = (provider, model, *(tuple(n.items()) if isinstance(n, dict) else n for n in astuple(usage)))
        if key not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[key] = self._listed(provider, model, usage)
        return self._found[key]

    def _listed(self, provider: str, model: str, usage: RequestUsage) -> float | None:
        """What pydantic-ai's list says."""
        response = ModelResponse(parts=[], usage=usage, model_name=model, provider_name=provider)
        try:
            return float(response.cost().total_price)
        except (LookupError, ValueError, AssertionError):
            self._without.add((provider, model))  # a failed lookup costs more than all other bookkeeping together
            return None

    def usage(self, provider: str | None, model: str | None, usage: RequestUsage, *, known: bool = True) -> ModelUsage:
        """One request and its cost.

        Args:
            known: whether the provider has reported the tokens; if not, the cost is not known either.
        """
        cost = self.cost(provider, model, usage) if known else None
        return ModelUsage(
            model=named(provider, model),
            requests=1,
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
            unpriced_requests=int(cost is None),
            cost=cost,
        )

    def usages(self, responses: Iterable[ModelResponse]) -> list[ModelUsage]:
        """What each response used."""
        return [self.usage(each.provider_name, each.model_name, each.usage) for each in responses]


def named(provider: str | None, model: str | None) -> str:
    """`provider:model`, as usage names a model; empty if neither is known."""
    return ":".join(name for name in (provider, model) if name)
