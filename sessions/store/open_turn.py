"""The open turn of a session as a worker gets it with the lease, decrypted."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from sessions.errors import SealError
from sessions.protocol.turn import TurnRequest
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing
from sessions.store.summaries import open_summary
from sessions.store.transitions.leases import Closing, Run
from sessions.store.turn_fields import REQUEST

__all__ = ["Closing", "OpenTurn", "agent_name", "open_agent", "read_open_turn"]


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """The turn that this worker now runs, with everything that a replay needs.

    Attributes:
        lease: the lease value that every write must name.
        seq: number of events of this attempt; the next one gets seq + 1.
        last: whether it is the turn's last attempt.
        now_ms: the store's time when the script ran.
        first_started_ms: the store's time when the turn's first attempt started; every replay sees this time.
        history: the entries of past turns that the first attempt saw, oldest first.
        agent: the agent's configuration (JSON) at acceptance.
        state: the session's state by key, as it was when this attempt started. It is still encrypted if the store is,
            because few turns read it.
        replaces_at: the position in the history from which it replaces turns; None if it replaces none.
        crashes: how many workers crashed while they ran it.
        closing: set when the turn must end: record what it finished, and run nothing.
        user_id: the user whom the turn is for: who sent the message, or the session's owner.
        sender: who sent the message, if that is not the session's owner.
        behind: how many turns of the session wait for this one.
        summary: of the turns before `history`, if the session has one; the first attempt saw the same.
        packed: how many entries of the history are in segments.
        unreadable: set when the turn cannot be decrypted. Request, journal, history and agent are then empty.
    """

    part: str
    lease: str
    attempt: int
    request: bytes
    deadline_ms: int
    accepted_ms: int
    seq: int
    retries: int
    last: bool
    now_ms: int
    first_started_ms: int
    user_id: str | None
    journal: dict[str, bytes]
    history: list[bytes]
    agent: bytes
    state: dict[str, bytes]
    closing: Closing | None = None
    crashes: int = 0
    replaces_at: int | None = None
    unreadable: SealError | None = None
    sender: str | None = None
    behind: int = 0
    summary: str = ""
    packed: int = 0

    def closed_by(self, error: SealError) -> OpenTurn:
        """The turn, if this is why it cannot be run."""
        return replace(self, request=b"", journal={}, history=[], agent=b"", unreadable=error)

    @property
    def token(self) -> str:
        """The fencing token: the first part of the ids of its events."""
        return self.lease.partition(":")[0]


def read_open_turn(keyring: KeyRing, keys: SessionKeys, run: Run) -> OpenTurn:
    """The turn in a script's reply. One that cannot be decrypted is returned, too: a worker has to end it."""
    steps, unreadable = run.journal, None
    first_started_ms = int(steps["inputs"].rpartition(b":")[2])
    try:
        request = keyring.open(keys.turn(run.turn), REQUEST, run.request)
        steps = {field: keyring.open(keys.journal(run.turn), field, value) for field, value in steps.items()}
        history = [keyring.open(keys.history, "", entry) for entry in run.history]
        agent = open_agent(keyring, keys, request, run.agent_config)
    except SealError as error:
        request, steps, history, agent, unreadable = b"", {}, [], b"", error
    return OpenTurn(
        part=run.turn,
        lease=run.lease,
        attempt=run.attempt,
        request=request,
        deadline_ms=run.deadline_ms,
        accepted_ms=run.accepted_ms,
        seq=run.seq,
        retries=run.retries or 0,
        last=run.last,
        now_ms=run.now_ms,
        first_started_ms=first_started_ms,
        user_id=run.sender or run.user,
        sender=run.sender,
        journal=steps,
        history=history,
        agent=agent,
        state=run.state,
        closing=run.closing,
        crashes=run.crashes,
        replaces_at=run.replaces_at,
        unreadable=unreadable,
        behind=run.behind,
        summary=open_summary(keyring, keys, run.summary),
        packed=run.packed,
    )


def open_agent(keyring: KeyRing, keys: SessionKeys, request: bytes, config: bytes) -> bytes:
    """The configuration in a turn's record: accept_turn may have copied it from the session's, so it has that place."""
    return keyring.open(keys.agents, agent_name(request), config) if keyring.sealed(config) else config


def agent_name(request: bytes) -> str:
    """The agent that a request is for."""
    name: str = json.loads(request).get("agent", TurnRequest.model_fields["agent"].default)
    return name
