"""Extracts facts worth remembering from a turn that has ended, with a model, in the background.

    commit (outbox) -> a turn in the lane `facts` asks the model -> an operation stores the facts that are new

Each step is accepted before the entry of the step before is removed, and accepting it twice changes nothing. So a
crash of a worker neither loses nor repeats an extraction.
"""

from __future__ import annotations

import json
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import IdempotencyConflict, SessionBusy, StoreFull
from sessions.protocol.agent import AgentConfig
from sessions.protocol.lanes import FACTS, LANE_TTL
from sessions.protocol.operation import Extraction
from sessions.protocol.turn import TurnRequest
from sessions.store.keys import SessionKeys
from sessions.store.scripts import translated
from sessions.store.submission import Submission
from sessions.store.turns import TurnStore
from sessions.store.wake_up import Publish
from workers.engine.ports import TurnInput

KIND: Final = "extract"
_log = get_logger(__name__)
_MOST_CHARS: Final = 12_000
_MOST_FACTS: Final = 10
_INSTRUCTIONS: Final = """\
You keep the memory of an assistant. From the exchange that you are given, take what will still matter in later
conversations: who the user is, what they prefer, own, plan or have decided, and facts they want remembered. Write each
as one short sentence in the third person that can be understood by itself. Leave out greetings, questions, what
was only guessed, and what the assistant said of itself. Most exchanges hold nothing: then give an empty list."""
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Facts",
    "properties": {"facts": {"type": "array", "items": {"type": "string"}, "maxItems": _MOST_FACTS}},
    "required": ["facts"],
}


class FactExtraction:
    """Submits the turns that extract facts. One per worker process."""

    def __init__(self, settings: Settings, turns: TurnStore, client: Any, publish: Publish) -> None:
        self._settings = settings
        self._turns = turns
        self._client = client
        self._publish = publish

    def effect(self, turn: TurnInput, answer: str) -> bytes | None:
        """The outbox entry for the commit of a turn, if facts are to be extracted from it."""
        recalls, models = turn.agent.recalls, turn.models or turn.agent.models or (turn.default_model,)
        if not (recalls.memory and recalls.extract) or "offline" in models:  # it only echoes, so there are no facts
            return None
        exchange = f"User:\n{turn.message[:_MOST_CHARS]}\n\nAssistant:\n{answer[:_MOST_CHARS]}"
        effect = {"kind": KIND, "turn": turn.turn_id, "model": turn.models or turn.agent.model, "user": turn.user_id}
        return json.dumps({**effect, "exchange": exchange}).encode()

    async def submit(self, keys: SessionKeys, effect: dict[str, Any]) -> None:
        """Submit the turn for an outbox entry. Submitting it again returns the same turn."""
        lane = keys.lane(FACTS)
        with translated():
            queue = await self._client.hget(keys.meta, "queue")
        try:
            accepted = await self._turns.accept(lane, self._submission(effect, queue.decode() if queue else "turns"))
        except (SessionBusy, StoreFull, IdempotencyConflict) as error:
            _log.warning("facts_not_taken", turn=effect["turn"], error=str(error))
            return
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)

    def _submission(self, effect: dict[str, Any], queue: str) -> Submission:
        agent = AgentConfig(
            name="Memory", instructions=_INSTRUCTIONS, model=effect["model"], output_schema=_SCHEMA, output_name="Facts"
        )
        extraction = Extraction(turn=effect["turn"], user=effect["user"])
        return Submission(
            TurnRequest(message=effect["exchange"], agent=agent.name, extraction=extraction),
            agent=agent,
            config=agent.model_dump_json().encode(),
            named=True,  # a worker of another version may submit it again, with other instructions
            timeout=self._settings.turn_timeout,
            queue=queue,
            idempotency_key=f"{KIND}:{effect['turn']}",
            session_ttl=LANE_TTL,
            result_ttl=LANE_TTL,
        )
