"""The protocol as a plain Python model: what each transition must answer, and what must be stored afterwards.

Single-threaded, no store: time is a number. The state machine compares it with the real scripts after each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.properties.pictures import (
    IDEM_TTL,
    LEASE,
    MAILBOX_LIMIT,
    QUEUE,
    RESULT_TTL,
    WINDOW,
    Session,
    State,
    Turn,
    token_of,
)


class Model(State):
    """All sessions of one partition."""

    # --- time -------------------------------------------------------------------------------------------

    def advance(self, to: int) -> None:
        """Let time pass; leases, sessions, records and idempotency keys end on their own."""
        self.now = max(self.now, to)
        for session in self.sessions.values():
            if session.lease and session.lease[1] <= self.now:
                session.lease = None
        self.sessions = {k: s for k, s in self.sessions.items() if not self._past(s.expires)}
        self.turns = {k: t for k, t in self.turns.items() if not self._past(t.expires)}
        self.idem = {k: v for k, v in self.idem.items() if not self._past(v[1])}

    def _past(self, at: int | None) -> bool:
        return at is not None and at <= self.now

    # --- clients ----------------------------------------------------------------------------------------

    def accept(
        self, name: str, part: str, body: str, idem: str, user: str, timeout: int, limit: int, ttl: int | None
    ) -> list[Any]:
        """From here on the turn ends in exactly one final status."""
        session = self.sessions.get(name, Session())
        if user and session.owner and session.owner != user:
            return ["other_owner"]
        if idem and (name, idem) in self.idem:
            first = self.idem[name, idem][0]
            return ["duplicate" if first.body == body else "conflict", first.part]
        if len(session.mailbox) >= MAILBOX_LIMIT:
            return ["full", len(session.mailbox)]
        self.sessions[name] = session
        session.owner = session.owner or user
        session.ttl = session.ttl if ttl is None else ttl
        session.expires = None
        wake = not session.mailbox and session.lease is None
        turn = Turn(part, body, idem, self.now, self.now + timeout, limit)
        self.turns[name, part] = turn
        session.mailbox.append(part)
        if idem:
            self.idem[name, idem] = turn, None
        if wake:
            session.wake = self.now, QUEUE
        return ["accepted", part, str(int(wake)), self.now, QUEUE]

    def cancel(self, name: str, part: str) -> list[Any]:
        """At once when no worker runs it, else by a mark."""
        turn = self.turns.get((name, part))
        if turn is None:
            return ["missing"]
        if turn.ended:
            return ["ended", turn.status]
        session = self.sessions[name]
        if turn.status == "running" and session.lease and session.lease[0] == turn.owner:
            turn.cancel = True
            return ["marked"]
        turn.cancel = True
        if "inputs" in turn.journal:  # begun: a worker records what it completed
            turn.status, turn.owner, turn.not_before = "queued", "", 0
            if session.lease is None:
                session.wake = 0, session.wake[1]
            return ["marked"]
        self._end(name, turn, "cancelled", self._next_token(), 1)
        if session.lease is None:
            session.wake = 0, session.wake[1]
        return ["cancelled"]

    def watch(self, name: str, part: str, nonce: str, kind: str, on: bool) -> list[Any]:
        """A client wants to hear of a turn, or no longer."""
        turn = self.turns.get((name, part))
        if turn is None:
            return ["missing"]
        if not turn.ended:
            others = [n for n in turn.watching.get(kind, []) if n != nonce]
            turn.watching[kind] = [*others, nonce] if on else others
        return ["watching", turn.status]

    def delete(self, name: str, user: str) -> list[Any]:
        """Nothing of the session is left."""
        session = self.sessions.get(name)
        if session and user and session.owner and session.owner != user:
            return ["other_owner"]
        self.sessions.pop(name, None)
        for key in [key for key in self.turns if key[0] == name]:
            turn = self.turns.pop(key)
            self.idem.pop((name, turn.idem), None)
            self.dead.pop(f"{name}~{turn.part}", None)
        return ["deleted"]

    # --- workers ----------------------------------------------------------------------------------------

    def lease(self, name: str, nonce: str, last_ok: bool) -> list[Any]:
        """Take the session, and begin its head."""
        session = self.sessions.get(name)
        if session is None:
            return ["empty"]
        if session.lease and session.lease[0].partition(":")[2] != nonce:
            return ["busy", session.lease[1] - self.now]
        return self._begin(name, session, nonce, last_ok)

    def record(
        self, name: str, part: str, value: str, step: str, seq: int, events: Sequence[tuple[str, Any]]
    ) -> list[Any]:
        """A step and its events, or events only."""
        turn = self._run_under(name, part, value)
        if turn is None:
            return ["lost"]
        if step:
            turn.journal[step] = f"by {value}"
        for offset, (kind, detail) in enumerate(events):
            turn.add(token_of(value), seq + offset, kind, detail)
            turn.seq = seq + offset
        if step:
            turn.valid = turn.events[-1][:2]
        return ["cancel" if turn.cancel else "ok"]

    def commit(self, name: str, part: str, value: str, status: str, seq: int, go_on: bool, last_ok: bool) -> list[Any]:
        """End the turn; its effects are written here or never."""
        turn = self.turns.get((name, part))
        if turn is None or turn.owner != value:
            return ["lost"]
        session = self.sessions.get(name)
        if not turn.ended:
            if self._run_under(name, part, value) is None or session is None:
                return ["lost"]
            if turn.cancel:
                status = "cancelled"
            session.history.append(part)
            session.messages += 2
            self._end(name, turn, status, token_of(value), seq)
        answer: list[Any] = ["committed", turn.status]
        if session is None or (session.lease is not None and session.lease[0] != value):
            return [*answer, "released"]
        head = self.turns[name, session.mailbox[0]] if session.mailbox else None
        if session.lease is None and head and head.status == "running" and head.owner == value:
            session.lease = value, self.now + LEASE  # it began that one, its reply was lost, and then the lease ran out
            return [*answer, *self._begin(name, session, "", last_ok)]
        if session.lease is not None and go_on:
            begun = self._begin(name, session, "", last_ok)
            return [*answer, *begun] if begun[0] == "run" else [*answer, "released"]
        given_back, session.lease = session.lease is not None, None
        if not session.mailbox:
            return [*answer, "released"]
        if given_back:
            session.wake = self.now, QUEUE
        return [*answer, "more", QUEUE, self.now]

    def release(self, name: str, part: str, value: str, why: str, pause: int, seq: int) -> list[Any]:
        """Give the turn back unfinished; never a crash."""
        turn = self.turns.get((name, part))
        if turn is not None and turn.released == value:
            return ["released"]
        if turn is not None and turn.status == "cancelled" and turn.owner == value:
            return ["cancelled"]
        turn = self._run_under(name, part, value)
        if turn is None:
            return ["lost"]
        session = self.sessions[name]
        session.lease = None
        if turn.cancel:  # the next worker records what it completed
            pause = 0
        turn.status, turn.owner, turn.released, turn.not_before = "queued", "", value, self.now + pause
        turn.retries += why == "retry"
        turn.add(token_of(value), seq, "retrying" if why == "retry" else "handed_over", None)
        session.wake = (0, session.wake[1]) if pause else (self.now, QUEUE)
        return ["released"]

    def renew(self, name: str, part: str, value: str) -> list[Any]:
        """Keep the lease, or take it back if no other worker has had the session since it ended."""
        session, turn = self.sessions.get(name), self.turns.get((name, part))
        ours = turn is not None and turn.owner == value and turn.status == "running"
        if session is None or (session.lease[0] != value if session.lease else not ours):
            return ["lost"]
        session.lease = value, self.now + LEASE
        return ["cancel" if turn and turn.cancel else "ok"]

    def forgive(self, name: str, part: str, value: str) -> list[Any]:
        """That lease ended by an outage, not by a crash."""
        turn = self.turns.get((name, part))
        if turn is not None and turn.ended and name in self.sessions and self.sessions[name].mailbox:
            turn = self.turns.get((name, self.sessions[name].mailbox[0]))  # its commit may have begun this one
        if turn is None or turn.ended:
            return ["nothing"]
        if value in turn.crashed:
            turn.crashed.remove(value)
            return ["forgiven"]
        session = self.sessions[name]
        free = session.lease is None or session.lease[0] == value
        if turn.status == "running" and turn.owner == value and free:
            session.lease = None
            turn.status, turn.owner = "queued", ""
            session.wake = 0, session.wake[1]
            return ["released"]
        return ["nothing"]

    def rescue(self, due: Sequence[str]) -> list[Any]:
        """Of the sessions that are due, those that wait for a worker."""
        found: list[Any] = [str(self.now)]
        for name in due:
            session = self.sessions.get(name)
            if session is None or not session.mailbox or session.lease:
                continue
            head = self.turns[name, session.mailbox[0]]
            if head.not_before > self.now:
                continue
            if head.status == "running" or not session.wake[0]:
                session.wake = self.now, QUEUE + ".rescue"
            found += [name, QUEUE + ".rescue"]
        return found

    # --- shared -----------------------------------------------------------------------------------------

    def _next_token(self) -> int:
        self.fence += 1
        return self.fence

    def _run_under(self, name: str, part: str, value: str) -> Turn | None:
        session, turn = self.sessions.get(name), self.turns.get((name, part))
        if session is None or turn is None or session.lease is None:
            return None
        return turn if session.lease[0] == value == turn.owner and turn.status == "running" else None

    def _begin(self, name: str, session: Session, nonce: str, last_ok: bool) -> list[Any]:
        value = session.lease[0] if session.lease else None
        while session.mailbox:
            turn = self.turns[name, session.mailbox[0]]
            if turn.status == "running" and turn.owner == value:
                return self._run_reply(session, turn)
            if turn.status == "running":
                if not nonce or turn.owner.partition(":")[2] != nonce:  # else its own reply was lost: no crash
                    turn.crashed.add(turn.owner)
                turn.status, turn.owner = "queued", ""
            ending = self._must_end(turn)
            closing = ending and self._is_written_down(turn)
            if ending and not closing:
                self._end(name, turn, ending, self._next_token(), 1)
                continue
            session.lease = None
            if turn.not_before > self.now and not closing:
                return ["later", str(turn.not_before)]
            if turn.last_attempt and not last_ok:
                return ["last"]
            return self._start(session, turn, value or f"{self._next_token()}:{nonce}", closing=bool(closing))
        session.lease = None
        return ["empty"]

    def _must_end(self, turn: Turn) -> str:
        if turn.cancel:
            return "cancelled"
        if len(turn.crashed) >= turn.limit:
            return "dead_lettered"
        return "failed" if turn.deadline <= self.now else ""

    def _is_written_down(self, turn: Turn) -> bool:
        """Whether a worker ends it, with what it completed; not if one has died while doing so."""
        crashes = len(turn.crashed)
        return "inputs" in turn.journal and (crashes < turn.limit if turn.cancel else crashes <= turn.limit)

    def _start(self, session: Session, turn: Turn, value: str, *, closing: bool) -> list[Any]:
        session.lease = value, self.now + LEASE
        if closing:
            turn.status, turn.owner, turn.not_before, turn.seq = "running", value, 0, 0
            return self._run_reply(session, turn)
        turn.attempt += 1
        turn.status, turn.owner, turn.not_before, turn.seq = "running", value, 0, 1
        self._fix_inputs(session, turn)
        if turn.attempt == 1:
            turn.add(token_of(value), 1, "started", None)
        else:
            turn.add(token_of(value), 1, "attempt_reset", "-".join(map(str, turn.valid)) if turn.valid else None)
        return self._run_reply(session, turn)

    def _fix_inputs(self, session: Session, turn: Turn) -> None:
        if "inputs" not in turn.journal:
            upto = len(session.history)
            if upto - session.window_at > WINDOW:
                session.window_at = upto - WINDOW // 2
            turn.journal["inputs"] = f"{upto}:{upto - session.window_at}:{self.now}"

    def _run_reply(self, session: Session, turn: Turn) -> list[Any]:
        upto, turns = map(int, turn.journal["inputs"].split(":")[:2])
        seen = session.history[upto - turns : upto]
        last = str(int(turn.last_attempt))
        return ["run", turn.part, turn.owner, turn.attempt, turn.seq, turn.retries, last, dict(turn.journal), seen]

    def _end(self, name: str, turn: Turn, status: str, token: int, seq: int) -> None:
        session = self.sessions[name]
        turn.status, turn.expires = status, self.now + RESULT_TTL
        turn.add(token, seq, "ended", status)
        session.mailbox.remove(turn.part)
        session.ended += 1
        if status == "dead_lettered":
            self.dead[f"{name}~{turn.part}"] = self.now
        else:
            turn.journal = {}
        if turn.idem:
            self.idem[name, turn.idem] = turn, self.now + IDEM_TTL
        if session.ttl and not session.mailbox:
            session.expires = self.now + session.ttl
