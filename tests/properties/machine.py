"""Drives the real scripts next to the plain model, and checks everything after each step.

Clients, workers, crashes, stalls and lost replies come in an order that hypothesis generates. A worker is a few slots;
a slot contains what a worker's thread would: the turn that it believes to run. A crash empties the slots of one
process; a stall is a slot that continues when its lease is another worker's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.properties.acceptances import accept_arguments
from tests.properties.calls import NAMES, Call
from tests.properties.observed import ObservedMachine
from tests.properties.pictures import IDEM_TTL, LEASE, MAILBOX_LIMIT, QUEUE, RESULT_TTL

which = st.integers(0, 7)
whom = st.sampled_from([0, 0, 0, 1, 2, 3])  # the first holds a lease in force, if any does
again = st.booleans()
names = st.sampled_from((*NAMES, NAMES[0], NAMES[0]))


class ProtocolMachine(ObservedMachine):
    """The protocol under everything that may happen to it."""

    # --- clients ----------------------------------------------------------------------------------------

    @rule(
        name=names, idem=st.sampled_from(["", "", "k1", "k2"]), body=st.sampled_from(["hello", "bye"]),
        user=st.sampled_from(["", "", "ann", "bob"]), timeout=st.sampled_from([900_000, 900_000, 8_000]),
        limit=st.sampled_from([3, 2, 1]), ttl=st.sampled_from([None, None, 0, 30_000, 90_000]), lost_reply=again,
    )  # fmt: skip
    def accept(
        self, name: str, idem: str, body: str, user: str, timeout: int, limit: int, ttl: int | None, lost_reply: bool
    ) -> None:
        part = f"t{self.number()}"
        call = Call(
            "accept_turn", name,
            accept_arguments(
                part, request=body, digest=body, idempotency=idem, user=user, sender=user, timeout_ms=timeout,
                mailbox_limit=MAILBOX_LIMIT, queue=QUEUE, result_ttl_ms=RESULT_TTL, idempotency_ttl_ms=IDEM_TTL,
                max_attempts=limit, session_ttl_ms="" if ttl is None else ttl, agent="", agent_config="",
                approval_ms=86_400_000,
            ),
            lambda: self.model.accept(name, part, body, idem, user, timeout, limit, ttl),
        )  # fmt: skip
        if self.send(call, lost_reply)[0] == "accepted":
            self.accepted.append((name, part))

    @precondition(lambda self: self.accepted)
    @rule(n=which, lost_reply=again)
    def cancel(self, n: int, lost_reply: bool) -> None:
        name, part = self.any_turn(n)
        self.send(Call("cancel_turn", name, (part,), lambda: self.model.cancel(name, part)), lost_reply)

    @precondition(lambda self: self.accepted)
    @rule(
        n=which, nonce=st.sampled_from("xy"), kind=st.sampled_from(["readers", "waiters"]), on=again, lost_reply=again
    )
    def watch(self, n: int, nonce: str, kind: str, on: bool, lost_reply: bool) -> None:
        name, part = self.any_turn(n)
        args = (part, nonce, kind, int(on))
        self.send(Call("watch_turn", name, args, lambda: self.model.watch(name, part, nonce, kind, on)), lost_reply)

    @precondition(lambda self: len(self.accepted) > 2 and self.numbers % 3 == 0)  # else nothing else lives long
    @rule(name=names, user=st.sampled_from(["", "ann"]), lost_reply=again)
    def delete(self, name: str, user: str, lost_reply: bool) -> None:
        call = Call("delete_session", name, (user, ""), lambda: self.model.delete(name, user))
        if self.send(call, lost_reply)[0] == "deleted":
            self.just_deleted = name
            self.removed |= {part for of, part in self.accepted if of == name}

    # --- workers ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.accepted and any(slot.claim is None for slot in self.slots))
    @rule(n=which, last_ok=st.sampled_from([True, True, False]), lost_reply=again)
    def wake(self, n: int, last_ok: bool, lost_reply: bool) -> None:
        """A wake-up arrives: late, doubled or on time, that is all the same to the worker."""
        slot = next(slot for slot in self.slots if slot.claim is None)
        waiting = sorted(name for name, session in self.model.sessions.items() if session.mailbox)
        name = waiting[n % len(waiting)] if waiting else self.any_turn(n)[0]
        self.lease_by(slot, name, last_ok, lost_reply)

    @precondition(lambda self: any(slot.claim for slot in self.slots))
    @rule(n=whom, kind=st.sampled_from(["step", "step", "start", "events"]), lost_reply=again)
    def record(self, n: int, kind: str, lost_reply: bool) -> None:
        """A step with its event, a tool's start without one, or deltas of no step."""
        slot, claim = self.holding(n)
        step = "" if kind == "events" else f"step:{claim.steps}"
        events: Sequence[tuple[str, Any]] = ()
        if kind == "events":
            events = [("text_delta", "Hel"), ("text_delta", "lo")]
        elif kind == "step":
            events = [("tool_call", step)]
        seq, claim.seq, claim.steps = claim.seq + 1, claim.seq + len(events), claim.steps + bool(step)
        data = [part for type_, said in events for part in (type_, json.dumps({"text": said, "step": said}))]
        call = Call(
            "record_step", claim.name,
            (claim.part, claim.value, step, f"by {claim.value}" if step else "", seq, 0, *data),
            lambda: self.model.record(claim.name, claim.part, claim.value, step, seq, events),
        )  # fmt: skip
        self.by_slot(slot, call, lost_reply)

    @precondition(lambda self: any(slot.claim for slot in self.slots))
    @rule(
        n=whom, status=st.sampled_from(["succeeded", "succeeded", "failed", "cancelled"]), go_on=again,
        last_ok=again, lost_reply=again,
    )  # fmt: skip
    def commit(self, n: int, status: str, go_on: bool, last_ok: bool, lost_reply: bool) -> None:
        slot, claim = self.holding(n)
        self.commit_by(slot, claim, status, go_on, last_ok, lost_reply)

    @precondition(lambda self: any(slot.claim for slot in self.slots))
    @rule(
        n=whom, why=st.sampled_from(["retry", "handover"]), pause=st.sampled_from([0, 1_500, 12_000]), lost_reply=again
    )
    def release(self, n: int, why: str, pause: int, lost_reply: bool) -> None:
        slot, claim = self.holding(n)
        event = "retrying" if why == "retry" else "handed_over"
        seq = claim.seq + 1
        call = Call(
            "release_turn", claim.name, (claim.part, claim.value, why, pause, seq, event, "{}"),
            lambda: self.model.release(claim.name, claim.part, claim.value, why, pause, seq),
        )  # fmt: skip
        self.by_slot(slot, call, lost_reply)

    @precondition(lambda self: any(slot.claim for slot in self.slots))
    @rule(n=whom, after=st.sampled_from([1_600, 4_000, 0]), lost_reply=again)
    def renew(self, n: int, after: int, lost_reply: bool) -> None:
        self.advance(self.store.now + after)
        slot, claim = self.holding(n)
        args = (claim.value, LEASE, claim.part)
        call = Call("renew_lease", claim.name, args, lambda: self.model.renew(claim.name, claim.part, claim.value))
        self.by_slot(slot, call, lost_reply)

    @precondition(lambda self: self.claims)
    @rule(n=which, lost_reply=again)
    def forgive(self, n: int, lost_reply: bool) -> None:
        """A worker that was cut off says so, whether its turn is open, ended, another's or deleted."""
        turns = self.model.turns
        counted = [c for c in self.claims if (c.name, c.part) in turns and c.value in turns[c.name, c.part].crashed]
        claims = counted or self.claims
        claim = claims[-1 - n % len(claims)]
        args = (claim.part, claim.value)
        call = Call("forgive_crash", claim.name, args, lambda: self.model.forgive(claim.name, claim.part, claim.value))
        self.send(call, lost_reply)

    @precondition(lambda self: any(slot.last for slot in self.slots))
    @rule(n=which)
    def arrive_again(self, n: int) -> None:
        """What a slot sent last is sent again after other things have happened: its reply was lost for long."""
        slots = [slot for slot in self.slots if slot.last]
        slot = slots[n % len(slots)]
        assert slot.last
        self.by_slot(slot, slot.last, False)

    @precondition(lambda self: any(slot.claim for slot in self.slots))
    @rule(process=st.sampled_from("abc"))
    def crash(self, process: str) -> None:
        """kill -9: none of its slots writes again."""
        for slot in self.slots:
            if slot.process == process:
                slot.claim = slot.last = None

    # --- time and rescue --------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 700, 2_000, 6_000, 35_000, 100_000]))
    def time_passes(self, ms: int) -> None:
        self.advance(self.store.now + ms)

    @precondition(lambda self: any(session.lease for session in self.model.sessions.values()))
    @rule(n=which)
    def lease_ends(self, n: int) -> None:
        """Its worker is dead, stalled or cut off: the slot that holds it may still write."""
        ends = sorted(session.lease[1] for session in self.model.sessions.values() if session.lease)
        self.advance(ends[n % len(ends)])

    @precondition(
        lambda self: any(slot.claim for slot in self.slots) and any(slot.claim is None for slot in self.slots)
    )
    @rule(n=whom, stalled=again, last_ok=st.sampled_from([True, True, False]), lost_reply=again)
    def another_resumes(self, n: int, stalled: bool, last_ok: bool, lost_reply: bool) -> None:
        """A worker falls silent, and another one continues its turn; one that was only stalled will write again."""
        slot, claim = self.holding(n)
        free = next(slot for slot in self.slots if slot.claim is None)
        if not stalled:
            slot.claim = slot.last = None
        session = self.model.sessions.get(claim.name)
        if session and session.lease:
            self.advance(session.lease[1])
        self.lease_by(free, claim.name, last_ok, lost_reply)

    @precondition(lambda self: self.accepted)
    @rule(after=st.sampled_from([2_500, 0, 6_000]), lost_reply=again)
    def rescue(self, after: int, lost_reply: bool) -> None:
        """Some worker looks; the wake-ups that it publishes may be lost, or arrive by the rule `wake`."""
        self.advance(self.store.now + after)
        self.rescue_now(lost_reply)

    # --- the ordinary course ----------------------------------------------------------------------------

    @rule(
        op=st.sampled_from(
            ["accept", "begin", "step", "start", "events", "commit", "succeed", "release", "resume", "renew"]
        ),
        n=whom, flag=again, lost_reply=again,
    )  # fmt: skip
    def goes_on(self, op: str, n: int, flag: bool, lost_reply: bool) -> None:
        """One more step of ordinary work. Hypothesis leaves out whole rules at times; this one gets far without."""
        free = any(slot.claim is None for slot in self.slots)
        if op == "accept" or not any(session.mailbox for session in self.model.sessions.values()):
            self.accept(NAMES[n % 2], "", "hello", "", 900_000, 3, None, lost_reply)
        elif free and (op == "begin" or not any(self.runs(slot) for slot in self.slots)):
            self.wake(n, True, lost_reply)
        elif not any(slot.claim for slot in self.slots):
            self.time_passes(2_000)
        elif op in ("step", "start", "events"):
            self.record(n, op, lost_reply)
        elif op in ("commit", "succeed"):
            self.commit(n, "succeeded" if op == "succeed" else "failed", flag, True, lost_reply)
        elif op == "release":
            self.release(n, "retry" if flag else "handover", 1_500 if flag else 0, lost_reply)
        elif op == "resume" and free:
            self.another_resumes(n, flag, True, lost_reply)
        else:
            self.renew(n, 1_600, lost_reply)

    goes_on_further = goes_on_and_on = goes_on_still = goes_on
