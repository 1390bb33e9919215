"""Sync methods derived from async ones: same parameters, types and docstring, and callable from a plain thread."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable

import pytest

from sessions import Agent, AgentDirectory, AgentTeam, Operation, Session, TeamRun, Turn
from sessions.client.blocking import blocking, iterating
from sessions.client.portal import Portal


class Counter:
    """Has a method of each kind."""

    def __init__(self) -> None:
        self.portal = Portal()

    async def acount(self, up_to: int, *, step: int = 1) -> list[int]:
        """Numbers."""
        return list(range(0, up_to, step))

    count = blocking(acount)

    async def aeach(self, up_to: int) -> AsyncIterator[int]:
        """Numbers, one at a time."""
        for number in range(up_to):
            yield number

    each = iterating(aeach)


def test_a_derived_method_is_called_like_its_async_form() -> None:
    """It is called from a thread without a loop; iterators stay lazy."""
    counter = Counter()
    assert counter.count(5, step=2) == [0, 2, 4]
    each = counter.each(3)
    assert (next(each), list(each)) == (0, [1, 2])


def test_a_derived_method_says_what_it_is() -> None:
    """Its own name, and all else of the async form: what `help()` and editors show."""
    assert Counter.count.__name__ == "count"
    assert Counter.count.__qualname__ == "Counter.count"
    assert Counter.count.__doc__ == "Numbers."
    assert not inspect.iscoroutinefunction(Counter.count)
    assert inspect.signature(Counter.count) == inspect.signature(Counter.acount)
    assert inspect.signature(Counter.each).return_annotation == "Iterator[int]"


async def test_a_derived_method_refuses_the_loop_that_it_would_block() -> None:
    """The loop is the portal's own."""
    counter = Counter()

    async def inside() -> None:
        counter.count(1)

    with pytest.raises(RuntimeError, match="async"):
        await counter.portal.acall(inside())


@pytest.mark.parametrize("kind", [Session, Agent, Turn, Operation, AgentTeam, TeamRun, AgentDirectory])
def test_every_public_method_has_both_forms(kind: type) -> None:
    """With the same parameters, and a docstring; hand-written ones are no exception."""
    methods = dict(inspect.getmembers(kind, inspect.isfunction))
    waits = [
        name
        for name, method in methods.items()
        if name.startswith("a") and (inspect.iscoroutinefunction(method) or name[1:] in methods)
    ]
    assert waits
    for name in waits:
        sync, its_async = methods[name[1:]], methods[name]
        assert _parameters(sync) == _parameters(its_async)
        assert sync.__doc__
        assert its_async.__doc__


def _parameters(method: Callable[..., object]) -> list[tuple[object, ...]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(method).parameters.values()]
