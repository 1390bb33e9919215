"""Budgets as the engine knows them: a request is reserved before it is sent, and one that is replayed is not."""

from __future__ import annotations

import pytest
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from sessions.errors import BudgetExceeded
from workers.engine.estimate import ANSWER_TOKENS, estimate_of
from workers.engine.ports import RequestEstimate
from workers.engine.prices import PriceList
from workers.engine.salvage import completed_steps

from .doubles import Crash, Rig, call

PARAMETERS = ModelRequestParameters()
PRICES = PriceList({"test": {"input": 1.0, "output": 2.0}})


class Budget:
    """Lets a number of requests through, and notes how many the journal had by then."""

    def __init__(self, rig: Rig, allowed: int = 100) -> None:
        self.rig = rig
        self.allowed = allowed
        self.reserved: list[int] = []

    async def reserve(self, estimate: RequestEstimate) -> None:
        assert estimate.tokens > ANSWER_TOKENS
        if len(self.reserved) == self.allowed:
            raise BudgetExceeded("it is spent", scope="user", unit="tokens", limit=10, used=9)
        self.reserved.append(sum(key.startswith("model:") for key in self.rig.store))


@pytest.fixture
def asking(rig: Rig) -> Rig:
    """An agent that asks its model three times."""
    rig.noting()
    rig.script([call("note", "c1", text="a")], [call("note", "c2", text="b")], [TextPart("done")])
    return rig


@pytest.mark.parametrize("stream", [False, True])
async def test_each_request_is_reserved_before_it_is_sent(asking: Rig, stream: bool) -> None:
    """When the one before it is in the journal, from which it is settled."""
    asking.state.budget = budget = Budget(asking)
    assert (await asking.run(asking.turn(stream=stream))).text.strip() == "done"
    assert budget.reserved == [0, 1, 2]


async def test_a_replayed_request_is_not_reserved_again(asking: Rig) -> None:
    """Whatever write the worker died before or after."""
    for number in range(7):
        for side in ("before", "after"):
            asking.store.clear()
            asking.paid.clear()
            asking.state.budget = budget = Budget(asking)
            with pytest.raises(Crash):
                await asking.run(crash=(number, side))
            done = sum(key.startswith("model:") for key in asking.store)
            asking.state.budget = budget = Budget(asking)
            await asking.run()
            assert budget.reserved == list(range(done, 3))


async def test_a_budget_that_is_spent_ends_the_turn_and_keeps_what_was_finished(asking: Rig) -> None:
    """The model is not asked; the error says whose budget it is."""
    asking.state.budget = Budget(asking, allowed=1)
    with pytest.raises(BudgetExceeded) as refused:
        await asking.run()
    error = refused.value
    assert (error.scope, error.unit, error.limit, error.used, error.resets_at) == ("user", "tokens", 10, 9, None)
    assert (asking.paid, asking.effects) == ([1], ["a"])
    assert '"tool-return"' in completed_steps(asking.turn(), asking.store, "").messages.decode()


def test_an_estimate_counts_what_came_since_the_last_response() -> None:
    """Up to that one, the provider has said how many tokens there are."""
    first = ModelRequest(parts=[UserPromptPart("x" * 3000)])
    fresh = estimate_of(TestModel(), [first], None, PARAMETERS, PRICES)
    assert 1000 < fresh.tokens - ANSWER_TOKENS < 1100
    usage = RequestUsage(input_tokens=700, output_tokens=50)
    messages: list[ModelMessage] = [first, ModelResponse(parts=[TextPart("hm")], usage=usage), first]
    later = estimate_of(TestModel(), messages, {"max_tokens": 10}, PARAMETERS, PRICES)
    assert later.tokens == fresh.tokens - ANSWER_TOKENS + 750 + 10
    assert later.cost == pytest.approx(((later.tokens - 10) * 1.0 + 10 * 2.0) / 1_000_000)


def test_the_longest_answer_of_a_chain_counts() -> None:
    """Each of its models has settings of its own; those of the request come before them."""
    chain = FallbackModel(TestModel(settings={"max_tokens": 50}), TestModel(settings={"max_tokens": 20_000}))
    assert estimate_of(chain, [], None, PARAMETERS, PRICES) == RequestEstimate(20_000, 20_000 * 2.0 / 1_000_000)
    assert estimate_of(chain, [], {"max_tokens": 10}, PARAMETERS, PRICES).tokens == 10


def test_an_estimate_names_a_model_without_a_price() -> None:
    """A budget in money cannot allow it."""
    double = FunctionModel(lambda messages, info: ModelResponse(parts=[TextPart("x")]), model_name="double")
    assert estimate_of(double, [], None, PARAMETERS, PriceList()).unpriced.endswith("double")
    assert estimate_of(TestModel(), [], None, PARAMETERS, PRICES).unpriced == ""
