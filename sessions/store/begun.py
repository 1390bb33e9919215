"""A turn as a worker finds it when it takes its lease: opened, where it is sealed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sessions.errors import SealError
from sessions.protocol.turn import TurnRequest
from sessions.store.keys import SessionKeys
from sessions.store.new_turn import REQUEST
from sessions.store.scripts import Reply
from sessions.store.sealing import KeyRing


class Closing(StrEnum):
    """Why a turn that was begun is ended without being run."""

    CANCELLED = "cancelled"
    DEAD_LETTERED = "dead_lettered"  # it lost its worker too often
    DEADLINE = "deadline"
    UNANSWERED = "unanswered"  # nobody answered its pending calls in time


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that this worker now runs, with all that a replay needs.

    Attributes:
        lease: the lease value that every write must name.
        seq: how many events this attempt has; the next one gets seq + 1.
        last: whether it is the turn's last attempt.
        now_ms: the store's time when the script ran; began_ms: when the turn first began (a replay sees that).
        history: the entries of past turns that the turn first saw, oldest first.
        agent: the agent's configuration (JSON) at acceptance.
        state: the session's state by key, as this attempt found it and as it is stored: few turns look at it.
        crashes: how often it has lost its worker.
        closing: why the turn must end; what it finished is to be written down, and nothing run.
        closed: why it cannot be opened, if it cannot: then there is no request, journal, history or configuration.
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
    began_ms: int
    user_id: str | None
    journal: dict[str, bytes]
    history: list[bytes]
    agent: bytes
    state: dict[str, bytes]
    closing: Closing | None = None
    crashes: int = 0
    closed: SealError | None = None

    @property
    def cancelled(self) -> bool:
        """Whether a client cancelled it."""
        return self.closing is Closing.CANCELLED

    @property
    def token(self) -> str:
        """The fencing token, with which the ids of its events begin."""
        return self.lease.partition(":")[0]


def read_begun(ring: KeyRing, keys: SessionKeys, reply: Reply) -> Begun:
    """A turn from the scripts' reply `run`. One that does not open is begun all the same: it must end."""
    _, part, lease, attempt, sealed, deadline, accepted, seq, retries, last, now, owner, *rest = reply
    journal, entries, config, state, closing, crashes = rest
    turn, steps, closed = part.decode(), _fields(journal), None
    began_ms = int(steps["inputs"].rpartition(b":")[2])
    try:
        request = ring.open(keys.turn(turn), REQUEST, sealed)
        steps = {field: ring.open(keys.journal(turn), field, value) for field, value in steps.items()}
        history = [ring.open(keys.history, "", entry) for entry in entries]
        agent = open_agent(ring, keys, request, config)
    except SealError as error:
        request, steps, history, agent, closed = b"", {}, [], b"", error
    return Begun(
        part=turn,
        lease=lease.decode(),
        attempt=int(attempt),
        request=request,
        deadline_ms=int(deadline),
        accepted_ms=int(accepted),
        seq=int(seq),
        retries=int(retries or 0),
        last=last == b"1",
        now_ms=int(now),
        began_ms=began_ms,
        user_id=owner.decode() or None,
        journal=steps,
        history=history,
        agent=agent,
        state=_fields(state),
        closing=Closing(closing.decode()) if closing else None,
        crashes=int(crashes),
        closed=closed,
    )


def open_agent(ring: KeyRing, keys: SessionKeys, request: bytes, config: bytes) -> bytes:
    """The configuration in a turn's record: accept_turn may have copied it from the session's, so it has that place."""
    return ring.open(keys.agents, agent_name(request), config) if ring.sealed(config) else config


def agent_name(request: bytes) -> str:
    """The agent that a request is for."""
    name: str = json.loads(request).get("agent", TurnRequest.model_fields["agent"].default)
    return name


def _fields(flat: Mapping[bytes, bytes] | Iterable[bytes]) -> dict[str, bytes]:
    if isinstance(flat, Mapping):
        return {name.decode(): value for name, value in flat.items()}
    pairs = iter(flat)
    return {name.decode(): value for name, value in zip(pairs, pairs, strict=True)}
