"""A tool that ends the consumer of the worker that runs it, as an error of Celery's own would."""

from __future__ import annotations

from kombu.asynchronous import get_event_loop

from sessions import tool


def _fail() -> None:
    raise RuntimeError("told to end the consumer")


@tool
def end_consumer() -> str:
    """End the consumer of this worker."""
    loop = get_event_loop()
    loop.call_soon(_fail)
    return "told"
