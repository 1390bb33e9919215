"""A request on its way into the store, with all that its acceptance needs."""

from __future__ import annotations

from dataclasses import dataclass

from sessions.protocol.agent import AgentConfig
from sessions.protocol.turn import Policy, TurnRequest


@dataclass(frozen=True, slots=True)
class Order:
    """A request on its way in.

    Attributes:
        config: the agent's configuration as JSON; empty for the one that the session knows by the agent's name.
        timeout: seconds to the turn's deadline; session_ttl: None leaves what is set.
        policy: what becomes of it when the session is busy.
        waiting_blocks: whether later turns wait while it waits for an answer; approval_timeout: for how long (s).
        colleagues: further agents that workers must be able to run, of a team, each with its queue.
        webhook: where its end is to be told; '' for nowhere.
        named: whether the caller only named the agent: a repeat of the request is the same one, although the name
            may have come to stand for another configuration.
    """

    request: TurnRequest
    agent: AgentConfig
    config: bytes
    user_id: str | None
    queue: str
    timeout: float
    idempotency_key: str | None = None
    session_ttl: float | None = None
    policy: Policy = Policy.ENQUEUE
    waiting_blocks: bool = True
    approval_timeout: float = 86400.0
    colleagues: tuple[tuple[AgentConfig, str], ...] = ()
    webhook: str = ""
    named: bool = False

    @property
    def said(self) -> bytes:
        """What of the agent a repeat under the same idempotency key must say, too, beside its name."""
        return b"" if self.named else self.config
