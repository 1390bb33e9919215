"""A new turn as it is stored: what of it is sealed, and for which place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessions.protocol import Policy
from sessions.sealing import KeyRing
from sessions.store.keys import SessionKeys

if TYPE_CHECKING:
    from sessions.store.turns import NewTurn

REQUEST: Final = "request"
RESULT: Final = "result"
ERROR: Final = "error"
MESSAGE: Final = "message"
WEBHOOK: Final = "webhook"


@dataclass(frozen=True, slots=True)
class SealedTurn:
    """What of a turn is sealed. Without keys it is as it was.

    Attributes:
        message: what joins a running turn. Which one that is its script decides, so it has a place of its own, as has
            the webhook.
        joins: whose messages may join this turn, which the script cannot read in its request then.
    """

    request: bytes
    config: bytes
    message: str | bytes
    webhook: bytes
    joins: str = ""


def seal_turn(ring: KeyRing, keys: SessionKeys, turn: NewTurn) -> SealedTurn:
    """The turn for its places in this session."""
    if not ring.ids:
        return SealedTurn(turn.request, turn.agent_config, turn.message, turn.webhook.encode())
    record = keys.turn(turn.part)
    return SealedTurn(
        request=ring.seal(record, REQUEST, turn.request),
        config=turn.agent_config and ring.seal(keys.agents, turn.agent_name, turn.agent_config),
        message=ring.seal(record, MESSAGE, turn.message.encode()) if turn.policy is Policy.STEER else b"",
        webhook=ring.seal(keys.base, WEBHOOK, turn.webhook.encode()) if turn.webhook else b"",
        joins=f"agent:{turn.agent_name}" if turn.steerable else "none",
    )


def digests(ring: KeyRing, turn: NewTurn) -> tuple[str, ...]:
    """What its digest is, and what else it may have been; a plain one would tell a guessed text from a wrong guess."""
    if not ring.ids:
        return (turn.digest,)
    return (*ring.digests(turn.digest.encode()), turn.digest)
