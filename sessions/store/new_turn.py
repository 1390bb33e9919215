"""A new turn as it is stored: which parts are encrypted, and for which place."""

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
    """The encrypted parts of a turn. Without keys they are unchanged.

    Attributes:
        message: the text that joins a running turn. Its script decides which turn, so it has a place of its own, as has
            the webhook.
        joins: which agent's messages may join this turn, because the script cannot read that in an encrypted request.
    """

    request: bytes
    config: bytes
    message: str | bytes
    webhook: bytes
    joins: str = ""


def seal_turn(ring: KeyRing, keys: SessionKeys, turn: NewTurn) -> SealedTurn:
    """The turn, encrypted for its places in this session."""
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
    """Its digest, and what else it may have been. A plain digest would let anyone test guesses of the text."""
    if not ring.ids:
        return (turn.digest,)
    return (*ring.digests(turn.digest.encode()), turn.digest)


@dataclass(frozen=True, slots=True)
class NewTurn:
    """What `accept` writes.

    Attributes:
        request: the request's JSON; digest: what an idempotent repeat must equal; timeout: seconds to the deadline.
        watcher: nonce of the client that is notified of the turn, with what it is notified of.
        session_ttl: seconds the session lives after its last turn; None keeps its current ttl.
        agent_config: the agent's configuration (JSON); empty for the one that the session knows under this name.
        policy: what happens if the session is busy; message: the text that joins a running turn.
        steerable: whether messages may join it while it runs.
        waiting_blocks: whether later turns wait while it waits for an answer; approval_timeout: for how long (s).
        result_ttl: seconds for which its record is kept after it ends; None: SESSIONFLEET_RESULT_TTL.
        webhook: the URL to call when it ends.
        mailbox_limit: the largest number of other open turns; None: SESSIONFLEET_MAILBOX_LIMIT.
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
