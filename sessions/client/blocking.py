"""Sync methods derived from async ones: each method is written once, as a coroutine.

    class StateMethods:
        async def aget_state(self, key: str) -> Any: ...

        get_state = blocking(aget_state)

The derived method has the same parameters, types and docstring. Write a sync method by hand only where a callback
must run on the caller's thread.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sessions.client.portal import Portal


class HasPortal(Protocol):
    """An object with an event loop to run its coroutines on."""

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        ...


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=HasPortal)


def blocking(method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[S, P], R]:
    """The sync form of an async method: it runs on the portal's loop while the caller waits.

    Raises:
        RuntimeError: it was called on the portal's own event loop, which it would block.
    """

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with _naming(self, call, method):
            coroutine = method(self, *args, **kwargs)
        return self.portal.call(coroutine)

    return _named_sync(call, method)


def iterating(method: Callable[Concatenate[S, P], AsyncIterator[R]]) -> Callable[Concatenate[S, P], Iterator[R]]:
    """The sync form of a method that returns an async iterator."""

    @functools.wraps(method)
    def iterate(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        with _naming(self, iterate, method):
            iterator = method(self, *args, **kwargs)
        return self.portal.iterate(iterator)

    return _named_sync(iterate, method)


@contextmanager
def _naming(called_on: object, derived: Callable[..., Any], method: Callable[..., Any]) -> Iterator[None]:
    """Have the error for arguments that do not fit name the method that was called, such as `Session.history()`.

    Within this context a coroutine is created, which runs nothing of it: a TypeError can only be about its arguments.
    """
    try:
        yield
    except TypeError as error:
        called = f"{type(called_on).__name__}.{derived.__name__}()"
        raise TypeError(str(error).replace(f"{method.__qualname__}()", called)) from None


F = TypeVar("F", bound=Callable[..., Any])


def _named_sync(derived: F, method: Callable[..., Any]) -> F:
    """Name it as it is called (`get_state`, not `aget_state`), for tracebacks, `help()` and `inspect.signature`."""
    signature = inspect.signature(method)
    returns = signature.return_annotation
    if isinstance(returns, str):  # an async generator: `AsyncIterator[...]` becomes `Iterator[...]`
        signature = signature.replace(return_annotation=returns.removeprefix("Async"))
    before, _, name = method.__qualname__.rpartition(".")
    derived.__name__ = name.removeprefix("a")
    derived.__qualname__ = f"{before}.{derived.__name__}"
    derived.__signature__ = signature  # type: ignore[attr-defined] # `inspect.signature` reads it first
    return derived
