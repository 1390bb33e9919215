"""What the plain model keeps of sessions and turns, and how that compares with the store."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sessions.protocol.turn import TurnStatus
from tests.properties.virtual_store import NEVER, Snapshot, StoredSession, StoredTurn

LEASE, WINDOW, MAILBOX_LIMIT = 5_000, 3, 4
RESULT_TTL, IDEM_TTL = 60_000, 40_000
FINAL = {status.value for status in TurnStatus if status.final}
QUEUE = "turns"
EventRow = tuple[int, int, str, Any]  # token, seq, type, what must be in its data


@dataclass
class Turn:
    """A turn; `owner` is the lease value it runs or ran under, `expires` when its record goes."""

    part: str
    body: str
    idem: str
    accepted: int
    deadline: int
    limit: int
    status: str = "queued"
    owner: str = ""
    released: str = ""
    attempt: int = 0
    retries: int = 0
    not_before: int = 0
    cancel: bool = False
    crashed: set[str] = field(default_factory=set)
    seq: int = 0
    journal: dict[str, str] = field(default_factory=dict)
    valid: tuple[int, int] | None = None
    events: list[EventRow] = field(default_factory=list)
    watching: dict[str, list[str]] = field(default_factory=dict)
    expires: int | None = None

    @property
    def ended(self) -> bool:
        return self.status in FINAL

    @property
    def last_attempt(self) -> bool:
        """One more lost worker and it goes to dead letters."""
        return self.limit > 1 and len(self.crashed) == self.limit - 1

    def add(self, token: int, seq: int, kind: str, detail: Any) -> None:
        """An event; one whose id is not the newest was written before."""
        if not self.events or (token, seq) > self.events[-1][:2]:
            self.events.append((token, seq, kind, detail))


@dataclass
class Session:
    """A session: nothing is open when `mailbox` is empty."""

    owner: str = ""
    ttl: int = 0
    mailbox: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    window_at: int = 0
    messages: int = 0
    ended: int = 0
    lease: tuple[str, int] | None = None
    wake: tuple[int, str] = (0, "")
    expires: int | None = None


def token_of(value: str) -> int:
    """The fencing token of a lease value."""
    return int(value.partition(":")[0])


@dataclass
class State:
    """All that the model knows."""

    now: int
    fence: int = 0
    sessions: dict[str, Session] = field(default_factory=dict)
    turns: dict[tuple[str, str], Turn] = field(default_factory=dict)  # (session, part)
    idem: dict[tuple[str, str], tuple[Turn, int | None]] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)  # `<session>~<part>` -> when


def expected(state: State) -> dict[str, Any]:
    """What must be stored, in plain values."""
    return {
        "fence": state.fence,
        "dead": sorted(ref for ref, at in state.dead.items() if at + RESULT_TTL > state.now),
        "idem": {f"{name} {key}": (turn.part, at or NEVER) for (name, key), (turn, at) in state.idem.items()},
        "sessions": {name: _expected_session(session) for name, session in state.sessions.items()},
        "turns": {f"{name}~{part}": _expected_turn(turn) for (name, part), turn in state.turns.items()},
    }


def _expected_session(session: Session) -> dict[str, Any]:
    return {
        "mailbox": session.mailbox,
        "open": len(session.mailbox),
        "ended": session.ended,
        "history": session.history,
        "window_at": session.window_at,
        "messages": session.messages,
        "owner": session.owner,
        "lease": session.lease,
        "wake": session.wake,
        "expires": session.expires or NEVER,
    }


_SHRUNK = ("succeeded", "failed", "cancelled")
"""Final statuses with which a turn's record has only what is still read."""


def _expected_turn(turn: Turn) -> dict[str, Any]:
    shrunk = turn.status in _SHRUNK
    return {
        "status": turn.status,
        "owner": turn.owner,
        "attempt": turn.attempt,
        "crashed": sorted(turn.crashed),
        "crashes": len(turn.crashed),
        "retries": turn.retries,
        "not_before": 0 if shrunk else turn.not_before,
        "cancel": turn.cancel,
        "journal": turn.journal,
        "events": [list(row) for row in turn.events],
        "watching": {} if shrunk else {kind: nonces for kind, nonces in turn.watching.items() if nonces},
        "expires": turn.expires or NEVER,
    }


def stored(snapshot: Snapshot) -> dict[str, Any]:
    """What is stored, in the same form."""
    sessions = snapshot.sessions
    dead = snapshot.partition.get("dead", {})
    return {
        "fence": snapshot.fence,
        "dead": sorted(ref for ref, at in dead.items() if at + RESULT_TTL > snapshot.now),
        "idem": {
            f"{name} {key.removeprefix('idem:')}": (value["turn"], session.expires[key])
            for name, session in sessions.items()
            for key, value in session.keys.items()
            if key.startswith("idem:")
        },
        "sessions": {name: _stored_session(session) for name, session in sessions.items() if session.meta},
        "turns": {
            f"{name}~{part}": _stored_turn(turn)
            for name, session in sessions.items()
            for part, turn in session.turns.items()
        },
    }


def _stored_session(session: StoredSession) -> dict[str, Any]:
    meta, lease = session.meta, session.keys.get("lease")
    return {
        "mailbox": session.mailbox,
        "open": int(meta.get("open", 0)),
        "ended": int(meta.get("turns", 0)),
        "history": session.history,
        "window_at": int(meta.get("window_at", 0)),
        "messages": int(meta.get("messages", 0)),
        "owner": meta.get("owner", ""),
        "lease": (lease, session.expires["lease"]) if lease else None,
        "wake": (int(meta.get("wake", 0)), meta.get("wake_queue", "")),
        "expires": session.expires["meta"],
    }


def _stored_turn(turn: StoredTurn) -> dict[str, Any]:
    record = turn.record or {}
    watching = {kind: record.get(kind, "").split() for kind in ("readers", "waiters")}
    return {
        "status": record.get("status", ""),
        "owner": record.get("owner", ""),
        "attempt": int(record.get("attempt", 0)),
        "crashed": sorted(name.removeprefix("crash:") for name in record if name.startswith("crash:")),
        "crashes": int(record.get("crashes", 0)),
        "retries": int(record.get("retries", 0)),
        "not_before": int(record.get("not_before", 0)),
        "cancel": "cancel" in record,
        "journal": turn.journal or {},
        "events": [_row(eid, fields) for eid, fields in turn.events or ()],
        "watching": {kind: nonces for kind, nonces in watching.items() if nonces},
        "expires": turn.expires.get("record", NEVER),
    }


_DETAIL = {"attempt_reset": "valid_through", "ended": "status", "tool_call": "step", "text_delta": "text"}


def _row(eid: str, fields: dict[str, str]) -> list[Any]:
    token, seq = map(int, eid.split("-"))
    kind = fields["type"]
    return [token, seq, kind, json.loads(fields["data"]).get(_DETAIL.get(kind, ""))]
