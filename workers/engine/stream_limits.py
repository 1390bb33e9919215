"""How long a stream may be silent: a provider that stalls must not hold a turn until its deadline.

pydantic-ai's `first_event_timeout` covers the time to the first token; this module covers the time between two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from pydantic_ai.messages import AgentStreamEvent, FinalResultEvent, PartDeltaEvent, PartStartEvent

from workers.engine.ports import TransientModelError

# What comes while a model streams. Tools have events, too, and may take as long as they like. After the end of the last
# part the response is whole, and its step is written: an outage of the store is not the model's silence.
_OF_A_MODEL: Final = (PartStartEvent, PartDeltaEvent, FinalResultEvent)


async def within(events: AsyncIterable[AgentStreamEvent], seconds: float) -> AsyncIterator[AgentStreamEvent]:
    """The events of a run, as long as its model is not silent for longer than this between two of its own.

    Raises:
        TransientModelError: it was.
    """
    coming = aiter(events)
    limit: float | None = None
    while True:
        try:
            async with asyncio.timeout(limit) as silence:
                event = await anext(coming)
        except StopAsyncIteration:
            return
        except TimeoutError:
            if not silence.expired():  # a limit of the model's client, of a tool or of a hook ran out
                raise
            raise TransientModelError(
                f"the model's stream was silent for {seconds:g} s (SESSIONFLEET_TOKEN_TIMEOUT)"
            ) from None
        limit = seconds if isinstance(event, _OF_A_MODEL) else None
        yield event
