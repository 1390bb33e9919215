"""A schedule under a clock that tests move: a tick is at most one turn, and none is lost, whatever workers do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from sessions.protocol.cron import Cron, Decision, Missed, decide
from sessions.store.keys import SessionKeys
from sessions.store.script_files import script, script_names
from tests.properties.acceptances import accept_arguments
from tests.properties.virtual_store import Edits, VirtualStore
from tests.support.servers import Server

KEYS = SessionKeys.of("acme", "one", 1)
HOUR = 3_600_000
# Shortly before the clocks of Berlin, New York and Lord Howe go back, or forward.
STARTS = {
    "Europe/Berlin": ("2096-10-27T20:00", "2096-03-24T20:00"),
    "America/New_York": ("2096-11-04T00:00", "2096-03-11T00:00"),
    "Australia/Lord_Howe": ("2096-03-31T10:00", "2096-10-06T10:00"),
}


@dataclass(frozen=True)
class Plan:
    """What a worker has read and decided, and has not written yet."""

    due: int
    decision: Decision

    @property
    def part(self) -> str:
        return f"{self.decision.run_ms or 0:032x}"


class ScheduleMachine(RuleBasedStateMachine):
    """One schedule, two workers that read and write at any time, and a clock that jumps."""

    def __init__(self, store: VirtualStore) -> None:
        super().__init__()
        self.store = store
        store.clear()
        self.plans: dict[str, Plan] = {}
        self.turns: dict[str, int] = {}

    @initialize(
        zone=st.sampled_from(sorted(STARTS)), forward=st.booleans(), missed=st.sampled_from(list(Missed)),
        expression=st.sampled_from(["*/10 * * * *", "30 1-3 * * *", "15 */2 * * *", "* 2 * * *"]),
    )  # fmt: skip
    def create(self, zone: str, forward: bool, missed: Missed, expression: str) -> None:
        self.store.advance(int(datetime.fromisoformat(STARTS[zone][forward]).replace(tzinfo=UTC).timestamp()) * 1000)
        self.cron, self.missed, self.first = Cron(expression, zone), missed, 0
        self.first = self.cron.after(self.store.now) or 0
        rules = '{"paused":false}'
        reply = self.run("put_schedule", "op", "s", "", "", "job", rules, self.first, 9, "turns", "")
        assert reply == ["put", 1]

    def run(self, script: str, *args: Any) -> list[Any]:
        return self.store.run(script, KEYS, *args)

    def due(self) -> int | None:
        found = self.store.snapshot().sessions["acme:one"].keys.get("schedules:due", {})
        return int(found["s"]) if found else None

    @rule(by=st.sampled_from([1_000, 20_000, 61_000, 5 * 60_000, HOUR, 3 * HOUR]))
    def time_passes(self, by: int) -> None:
        self.store.advance(self.store.now + by)

    @rule(by=st.sampled_from([60_000, HOUR]))
    def the_clock_is_set_back(self, by: int) -> None:
        self.store.now -= by
        self.store._client.set("clock", self.store.now)

    @rule(worker=st.sampled_from("ab"))
    def reads(self, worker: str) -> None:
        """If the schedule is due, a worker reads it and decides; it may stop there for as long as it likes."""
        due = self.due()
        if due is not None and due <= self.store.now:
            self.plans[worker] = Plan(due, decide(self.cron, self.missed, due, self.store.now))

    @rule(worker=st.sampled_from("ab"), overlap=st.sampled_from(["skip", "queue"]), lost_reply=st.booleans())
    @precondition(lambda self: self.plans)
    def writes(self, worker: str, overlap: str, lost_reply: bool) -> None:
        """It acts on what it has read, perhaps hours ago, perhaps twice."""
        plan = self.plans.get(worker)
        if plan is None:
            return
        before = self.due()
        for _ in range(1 + lost_reply):
            reply = self.act(plan, overlap)
        if before == plan.due:
            assert lost_reply or reply[0] in ("accepted", "skipped", "noted"), reply
        elif plan.part not in self.turns:
            assert reply == ["passed"]
        if reply[0] == "accepted" and before == plan.due:
            self.turns[plan.part] = self.turns.get(plan.part, 0) + 1

    def act(self, plan: Plan, overlap: str) -> list[Any]:
        upcoming = "" if plan.decision.next_ms is None else plan.decision.next_ms
        if plan.decision.run_ms is None:
            return self.run("pass_tick", "s", plan.due, upcoming, plan.decision.missed)
        tick = ("s", plan.due, plan.decision.run_ms, upcoming, plan.decision.missed, overlap)
        return self.run("accept_turn", *accept_arguments(plan.part, tick=tick))

    @rule()
    def a_turn_ends(self) -> None:
        """Somebody cancels the oldest open one."""
        mailbox = self.store.snapshot().sessions["acme:one"].mailbox
        if mailbox:
            self.run("cancel_turn", mailbox[0])

    def teardown(self) -> None:
        """Every tick until the next one is a turn, was missed or was skipped, and no tick is two of them."""
        if not hasattr(self, "cron"):
            return
        state = self._state()
        due = self.due()
        assert due is not None
        assert all(count == 1 for count in self.turns.values()), self.turns
        assert state["runs"] == len(self.turns)
        ticks, at = 0, self.first
        while at < due:
            ticks, at = ticks + 1, self.cron.after(at) or due
        assert at == due, "the next tick is one of the expression's"
        assert state["runs"] + state["missed_runs"] + state["skipped_runs"] == ticks
        assert self.store.snapshot().wakeups, "somebody looks at it again"

    def _state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.snapshot().sessions["acme:one"].keys["schedules:state"]["s"])
        return found


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A separate database on the shared server."""
    with redis.Redis(port=server.port, db=11) as client:
        yield client
        client.flushdb()


def _run(store: VirtualStore, examples: int, *phases: Phase) -> None:
    run_state_machine_as_test(
        lambda: ScheduleMachine(store),
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, database=None,
            derandomize="SF_PROPERTY_EXAMPLES" not in os.environ, suppress_health_check=list(HealthCheck),
            print_blob=False, report_multiple_bugs=False, phases=phases or (Phase.generate, Phase.shrink),
        ),
    )  # fmt: skip


def test_a_tick_is_one_turn_whatever_happens(client: redis.Redis) -> None:
    """Two workers, lost replies, stalls, jumps of the clock, and changes of the clocks of three zones."""
    _run(VirtualStore(client), int(os.environ.get("SF_PROPERTY_EXAMPLES", "60")))


_COMPARED = "return tonumber(redis.call('ZSCORE', S .. ':schedules:due', id) or '') == tonumber(at)"
BROKEN: dict[str, Edits] = {
    "a tick is not compared": {"*": ((_COMPARED, "return true"),)},
    "the next tick is not set": {"accept_turn": (("set_due(tick_of, next_ms)\n", "\n"),)},
    "a skip is not counted": {"accept_turn": (("state.skipped_runs + 1", "state.skipped_runs"),)},
    "missed ticks are not counted": {"pass_tick": (("state.missed_runs + missed", "state.missed_runs"),)},
    "a schedule is no reason to look": {"*": (("':later', ':schedules:due' }", "':later' }"),)},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_script_is_found(broken: str, client: redis.Redis) -> None:
    """The state machine fails when a script has a mistake: the property can be violated."""
    for name, pairs in BROKEN[broken].items():
        texts = [script(each).text for each in (script_names() if name == "*" else (name,))]
        assert all(any(old in text for text in texts) for old, _ in pairs), "the scripts have changed: adapt BROKEN"
    with pytest.raises(AssertionError):
        _run(VirtualStore(client, BROKEN[broken]), 300, Phase.generate)
