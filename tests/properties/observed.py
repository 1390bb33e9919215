"""The machine without its rules: it sends scripts, compares them with the model, looks at everything, and ends well."""

from __future__ import annotations

from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from tests.properties.calls import KEYS, Call, Claim, Slot, acceptable, brief, claimed
from tests.properties.laws import INDEXES, check_moment, check_step
from tests.properties.model import Model
from tests.properties.pictures import FINAL, LEASE, WINDOW, expected, stored
from tests.properties.virtual_store import VirtualStore


class ObservedMachine(RuleBasedStateMachine):
    """Real scripts and plain model side by side; after each step all promises are looked at."""

    def __init__(self, store: VirtualStore, *, by_model: bool = True) -> None:
        super().__init__()
        self.store = store
        self.by_model = by_model
        store.clear()
        self.model = Model(store.now)
        self.slots = [Slot("a"), Slot("a"), Slot("b"), Slot("c")]
        self.accepted: list[tuple[str, str]] = []
        self.removed: set[str] = set()
        self.ended: dict[str, str] = {}
        self.claims: list[Claim] = []
        self.seen = store.snapshot()
        self.just_deleted: str | None = None
        self.numbers = 0
        self.sound = True

    # --- sending ----------------------------------------------------------------------------------------

    def send(self, call: Call, lost_reply: bool) -> list[Any]:
        """Run a script and compare its answer; after a lost reply it is sent again, and must change nothing."""
        self.sound = False  # until everything has been looked at
        reply = self.store.run(call.script, KEYS[call.name], *call.args)
        said = call.model()
        self.compare(call.script, brief(call.script, reply), said)
        if lost_reply:
            before = self.store.snapshot()
            second = self.store.run(call.script, KEYS[call.name], *call.args)
            assert self.store.snapshot() == before, f"R1: {call.script} sent again changed the store"
            first, then = brief(call.script, reply), brief(call.script, second)
            assert acceptable(call.script, first, then), f"R1: {call.script} said {first}, sent again {then}"
        return reply

    def compare(self, what: str, is_: object, should: object) -> None:
        """The store and the model agree."""
        if self.by_model:
            assert is_ == should, f"{what}:\n  store {is_}\n  model {should}"

    def by_slot(self, slot: Slot, call: Call, lost_reply: bool) -> None:
        """A worker's call; its claim afterwards is what the answer says."""
        slot.last = call
        reply = self.send(call, lost_reply)
        self.fenced(call, reply)
        if reply[0] in ("run", "next_run"):
            slot.claim = claimed(call.name, reply)
            self.claims.append(slot.claim)
        elif call.script in ("commit_turn", "release_turn") or reply[0] == "lost":
            slot.claim = None

    def fenced(self, call: Call, reply: list[Any]) -> None:
        """The holder of the lease may write; anyone else may neither write nor take it from its holder."""
        held = self.seen.sessions[call.name].keys.get("lease") if call.name in self.seen.sessions else None
        if call.script == "lease_session":
            assert reply[0] != "run" or held in (None, reply[2]), f"P1: {held} and {reply[2]} hold {call.name} at once"
        elif held is None and (call.script == "renew_lease" or reply[0] == "next_run"):
            pass  # it took back an expired lease; the model knows whether anyone has had the session since
        elif reply[0] != "lost" and held != call.args[0 if call.script == "renew_lease" else 1]:
            assert self.store.snapshot() == self.seen, f"P3: {call.script} wrote without a lease in force"

    def number(self) -> int:
        """A new one, for ids and nonces."""
        self.numbers += 1
        return self.numbers

    def holding(self, n: int) -> tuple[Slot, Claim]:
        """One of the slots that hold a turn."""
        slots = sorted((slot for slot in self.slots if slot.claim), key=self.runs, reverse=True)
        slot = slots[n % len(slots)]
        assert slot.claim
        return slot, slot.claim

    def runs(self, slot: Slot) -> bool:
        """Whether its lease is in force."""
        session = slot.claim and self.model.sessions.get(slot.claim.name)
        return bool(session and session.lease and slot.claim and session.lease[0] == slot.claim.value)

    def any_turn(self, n: int) -> tuple[str, str]:
        """One of the newest turns."""
        return self.accepted[-1 - n % len(self.accepted)]

    # --- what workers send ------------------------------------------------------------------------------

    def lease_by(self, slot: Slot, name: str, last_ok: bool, lost_reply: bool) -> None:
        nonce = f"n{self.number()}"
        args = (nonce, LEASE, slot.process, WINDOW, int(last_ok), 0)
        call = Call("lease_session", name, args, lambda: self.model.lease(name, nonce, last_ok))
        self.by_slot(slot, call, lost_reply)

    def commit_by(self, slot: Slot, claim: Claim, status: str, go_on: bool, last_ok: bool, lost_reply: bool) -> None:
        entry, said = claim.part, '"said"' if status == "succeeded" else ""
        why = "" if said else '{"type":"TurnFailed","message":"no"}'
        args = (
            claim.part, claim.value, status, said, why, "{}", entry, 2, 0, claim.seq + 1, int(go_on),
            LEASE, slot.process, WINDOW, "", int(last_ok), "", "", "", 0, 0, 0,
        )  # fmt: skip
        model = self.model.commit
        call = Call(
            "commit_turn", claim.name, args,
            lambda: model(claim.name, claim.part, claim.value, status, claim.seq + 1, go_on, last_ok),
        )  # fmt: skip
        self.by_slot(slot, call, lost_reply)

    # --- time and rescue --------------------------------------------------------------------------------

    def advance(self, to: int) -> None:
        """Move both clocks; what expired on the way is looked at."""
        self.store.advance(to)
        self.model.advance(to)
        self.promises_hold()

    def rescue_now(self, lost_reply: bool) -> list[str]:
        self.sound = False
        due = [name for name, at in self.store.snapshot().wakeups.items() if at <= self.store.now]
        found = self.store.run("rescue_partition", None, 500)
        said = self.model.rescue(due)
        self.compare("rescue_partition", sorted(found[2:]), sorted(said[1:]))
        if lost_reply:
            before = self.store.snapshot()
            assert self.store.run("rescue_partition", None, 500)[2:] == [], "R1: rescued twice at once"
            assert self.store.snapshot() == before, "R1: rescue sent again changed the store"
        return found[2::2]

    # --- what must hold ---------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        assert not self.seen.sessions

    @invariant()
    def promises_hold(self) -> None:
        before, self.seen = self.seen, self.store.snapshot()
        deleted, self.just_deleted = self.just_deleted, None
        check_moment(self.seen, [part for _, part in self.accepted])
        check_step(before, self.seen, deleted)
        self.compare("what is stored", *_differences(stored(self.seen), expected(self.model)))
        for session in self.seen.sessions.values():
            for part, turn in session.turns.items():
                if turn.status in FINAL:
                    assert self.ended.setdefault(part, turn.status) == turn.status, f"P2: {part} ended twice"
        self.sound = True

    def teardown(self) -> None:
        """No more faults: the rescuer alone brings every turn to its end, and nothing is left behind."""
        if self.sound:  # a failure has been found otherwise; it is not to be hidden by a second one
            self._drive_to_the_end()
            self._all_expires()

    def _drive_to_the_end(self) -> None:
        self.slots = [Slot("z")]
        limit = self.store.now + 60_000
        while self.seen.wakeups:
            assert self.store.now < limit, f"P2: open after a minute without faults: {stored(self.seen)['sessions']}"
            self.advance(max(self.store.now, int(min(self.seen.wakeups.values())) + 1))
            for name in self.rescue_now(False):
                slot = self.slots[0]
                self.lease_by(slot, name, True, False)
                self.promises_hold()
                while slot.claim:
                    self.commit_by(slot, slot.claim, "succeeded", True, True, False)
                    self.promises_hold()
            self.promises_hold()
        for _, part in self.accepted:
            assert part in self.ended or part in self.removed, f"P2: turn {part} was accepted and never ended"

    def _all_expires(self) -> None:
        self.advance(self.store.now + 4_000_000_000)
        left = {key for session in self.seen.sessions.values() for key in session.keys}
        assert left <= {"meta", "history", "turns"}, f"P9: {left} outlive everything"
        assert not any(session.turns for session in self.seen.sessions.values())
        for _ in range(3):  # a rescuer removes from the lists what has expired
            self.store.run("rescue_partition", None, 500)
        self.seen = self.store.snapshot()
        check_moment(self.seen, [part for _, part in self.accepted])
        own = {name.partition(":")[2] for name, session in self.seen.sessions.items() if session.meta}
        for name, value in self.seen.partition.items():
            is_list = name.startswith(INDEXES) and value.keys() <= own
            assert name == "fence" or is_list, f"P9: {name} outlives everything: {value}"


def _differences(is_: Any, should: Any) -> tuple[Any, Any]:
    """Both without what they share, so that a failure names what differs."""
    if not (isinstance(is_, dict) and isinstance(should, dict)):
        return is_, should
    pairs = {key: _differences(is_.get(key), should.get(key)) for key in is_.keys() | should.keys()}
    unlike = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    return {key: pair[0] for key, pair in unlike.items()}, {key: pair[1] for key, pair in unlike.items()}
