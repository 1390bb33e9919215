"""A new turn as it is stored: what of it is sealed, and for which place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sessions.protocol.turn import Policy
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing

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


@dataclass(frozen=True, slots=True)
class NewTurn:
    """What `accept` writes down.

    Attributes:
        request: the request's JSON; digest: what an idempotent repeat must equal; timeout: seconds to the deadline.
        watcher: nonce of the client that wants to hear of the turn, with what it wants to hear.
        session_ttl: seconds the session lives after its last turn; None leaves what it has.
        agent_config: the agent's configuration (JSON); empty for the one that the session knows under this name.
        policy: what becomes of it when the session is busy; message: the text that joins a running turn.
        steerable: whether messages may join it while it runs.
        waiting_blocks: whether later turns wait while it waits for an answer; approval_timeout: for how long (s).
        result_ttl: seconds its record outlives it; None: SESSIONFLEET_RESULT_TTL.
        webhook: where its end is to be told.
        mailbox_limit: most turns that may be open besides; None: SESSIONFLEET_MAILBOX_LIMIT.
    """

    part: str
    request: bytes
    digest: str
    timeout: float
    queue: str
    user_id: str | None = None
    idempotency: str = ""
    watcher: str = ""
    watch: Watch = "waiters"
    session_ttl: float | None = None
    agent_name: str = ""
    agent_config: bytes = b""
    policy: Policy = Policy.ENQUEUE
    message: str = ""
    steerable: bool = True
    waiting_blocks: bool = True
    approval_timeout: float = 86400.0
    result_ttl: float | None = None
    webhook: str = ""
    mailbox_limit: int | None = None


Watch = Literal["readers", "waiters"]
