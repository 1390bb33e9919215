"""Middleware: functions that the client calls with each message and its answer, after the turn is committed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sessions.errors import BadRequest, MiddlewareError

Middleware = Callable[[str, Any], Any]


def checked(middleware: Sequence[Middleware] | None) -> tuple[Middleware, ...]:
    """The middleware as a tuple.

    Raises:
        BadRequest: it is not a sequence of functions.
    """
    functions = tuple(middleware or ())
    for function in functions:
        if not callable(function):
            raise BadRequest(f"middleware {function!r}: pass functions that accept (message, response)")
    return functions


async def apply(middleware: Sequence[Middleware], message: str, response: Any) -> Any:
    """Run the functions in order; what one returns replaces the response for the next, None keeps it.

    Raises:
        MiddlewareError: a function raised. The turn itself stays committed.
    """
    for function in middleware:
        try:
            changed = function(message, response)
            if inspect.isawaitable(changed):
                changed = await changed
        except Exception as error:
            name = getattr(function, "__name__", repr(function))
            raise MiddlewareError(f"middleware {name!r} raised {error!r}; the turn itself is committed") from error
        response = response if changed is None else changed
    return response


def apply_blocking(middleware: Sequence[Middleware], message: str, response: Any) -> Any:
    """`apply` for sync callers: in a thread with its own event loop, because middleware may be coroutine functions.

    Raises:
        MiddlewareError: as `apply`.
    """
    if not middleware:
        return response
    with ThreadPoolExecutor(1, thread_name_prefix="sessionfleet-middleware") as thread:
        return thread.submit(asyncio.run, apply(middleware, message, response)).result()
