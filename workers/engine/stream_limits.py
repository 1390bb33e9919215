"""A timeout between the tokens of a stream: a provider that stalls must not block a turn until its deadline.

pydantic-ai's `first_event_timeout` limits the time to the first token; this module limits the time between tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from pydantic_ai.messages import AgentStreamEvent, FinalResultEvent, PartDeltaEvent, PartStartEvent

from workers.engine.ports import TransientModelError

# The events of a model that is streaming. The timeout does not apply to a tool's events. Nor does it apply after the
# response is complete, when its step is written: an outage of the store must not count as the model's silence.
_MODEL_EVENTS: Final = (PartStartEvent, PartDeltaEvent, FinalResultEvent)


async def with_token_timeout(
    events: AsyncIterable[AgentStreamEvent], seconds: float
) -> AsyncIterator[AgentStreamEvent]:
    """Pass on the events of a run, with a timeout between two events of its model.

    Raises:
        TransientModelError: the model was silent for longer than `seconds`.
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
            if not silence.expired():  # a timeout of the model's client, a tool or a hook
                raise
            raise TransientModelError(
                f"the model's stream was silent for {seconds:g} s (SESSIONFLEET_TOKEN_TIMEOUT)"
            ) from None
        limit = seconds if isinstance(event, _MODEL_EVENTS) else None
        yield event
