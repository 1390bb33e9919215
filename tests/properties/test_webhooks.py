"""However turns end, each webhook is sent once; one that pauses neither blocks the mailbox nor is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sessions.store.keys import SessionKeys
from sessions.store.script_files import script, script_names
from tests.properties.acceptances import accept_arguments
from tests.properties.laws import LONGEST_LOOK
from tests.properties.pictures import FINAL, LEASE
from tests.properties.virtual_store import Edits, StoredSession, VirtualStore
from tests.support.servers import Server

NAME = "acme:one"
KEYS = SessionKeys.of("acme", "one", 1)
again = st.booleans()
pauses = st.sampled_from([0, 900, 7_000])


class WebhookMachine(RuleBasedStateMachine):
    """One session under the real scripts: only laws, no model."""

    def __init__(self, store: VirtualStore) -> None:
        super().__init__()
        self.store = store
        store.clear()
        self.with_webhook: set[str] = set()
        self.acked: list[str] = []
        self.made = 0
        self.held: tuple[str, str, int] | None = None  # turn, lease, seq
        self.gone: tuple[str, str, int] | None = None  # of a worker that went silent, and may write again

    def run(self, script: str, *args: Any, lost_reply: bool = False) -> list[Any]:
        for _ in range(1 + lost_reply):
            reply = self.store.run(script, KEYS, *args)
        return reply

    def new(self) -> str:
        """A turn or a nonce; the same in each run of an example."""
        self.made += 1
        return f"{self.made:032x}"

    @property
    def seen(self) -> StoredSession:
        return self.store.snapshot().sessions.get(NAME, StoredSession())

    # --- what happens -----------------------------------------------------------------------------------

    @rule(
        policy=st.sampled_from(["enqueue", "enqueue", "reject", "interrupt", "rollback", "steer"]),
        webhook=st.booleans(), blocks=st.booleans(), timeout=st.sampled_from([900_000, 900_000, 3_000]),
        start=st.sampled_from(["", "", "+1500", "+7000"]), limit=st.sampled_from([3, 1]), lost_reply=again,
    )  # fmt: skip
    def accept(
        self, policy: str, webhook: bool, blocks: bool, timeout: int, start: str, limit: int, lost_reply: bool
    ) -> None:
        part = self.new()
        arguments = accept_arguments(
            part,
            timeout_ms=timeout,
            not_before=start,
            mailbox_limit=4,
            max_attempts=limit,
            policy=policy,
            waiting_blocks=int(blocks),
            message="text",
            webhook="url" if webhook else "",
        )
        reply = self.run("accept_turn", *arguments, lost_reply=lost_reply)
        if webhook and reply[0] in ("accepted", "steered"):
            self.with_webhook.add(reply[1])

    @precondition(lambda self: self.held is None)
    @rule(last_ok=st.booleans(), lost_reply=again, dies=st.booleans())
    def wake(self, last_ok: bool, lost_reply: bool, dies: bool) -> None:
        """A worker comes; it submits the deliveries that it finds, and may die before it acknowledges them."""
        reply = self.run("lease_session", self.new(), LEASE, "w", "20", int(last_ok), 0, lost_reply=lost_reply)
        if reply[0] == "effects":
            for entry in reply[1][: 1 if dies else None]:
                self.run("ack_outbox", entry, lost_reply=lost_reply)
                self.acked += self._ends([entry])
        if reply[0] == "run":
            assert not self.seen.keys.get("outbox"), "R7: a turn begins with effects left to apply"
            self.held = (reply[1], reply[2], int(reply[7]))

    @precondition(lambda self: self.held is not None)
    @rule(status=st.sampled_from(["succeeded", "failed", "dead_lettered"]), go_on=st.booleans(), lost_reply=again)
    def commit(self, status: str, go_on: bool, lost_reply: bool) -> None:
        part, lease, seq = self._taken()
        reply = self.run(
            "commit_turn", part, lease, status, "{}", "", "{}", "", 0, 0, seq + 5, int(go_on), LEASE, "w", "20",
            "", 1, "", "", "", 0, 0, 0, lost_reply=lost_reply,
        )  # fmt: skip
        if reply[0] == "steered":
            self.run("take_steering", part, lease, "steer:1", seq + 6, "")
        if reply[0] == "next_run":
            assert not self.seen.keys.get("outbox"), "R7: a turn begins with effects left to apply"
            self.held = (reply[1], reply[2], int(reply[7]))

    @precondition(lambda self: self.held is not None)
    @rule(why=st.sampled_from(["later", "later", "retry", "handover"]), pause=pauses, lost_reply=again)
    def release(self, why: str, pause: int, lost_reply: bool) -> None:
        part, lease, seq = self._taken()
        self.run("release_turn", part, lease, why, pause, seq + 5, "retrying", "{}", lost_reply=lost_reply)

    @precondition(lambda self: self.held is not None)
    @rule(lost_reply=again)
    def wait(self, lost_reply: bool) -> None:
        """For an answer that is never given."""
        part, lease, seq = self._taken()
        self.run("wait_turn", part, lease, seq + 5, "{}", "1:approval:c", "{}", lost_reply=lost_reply)

    @staticmethod
    def _ends(outbox: Iterable[str]) -> list[str]:
        """The turns whose ends are in it; it also has the beginnings of their waits."""
        return [entry["turn"] for entry in map(json.loads, outbox) if entry["kind"] == "webhook"]

    def _taken(self) -> tuple[str, str, int]:
        assert self.held is not None
        taken, self.held = self.held, None
        return taken

    @precondition(lambda self: self.held is not None)
    @rule(dead=st.booleans())
    def go_silent(self, dead: bool) -> None:
        taken = self._taken()
        self.gone = None if dead else taken
        self.store.advance(self.store.now + LEASE)

    @precondition(lambda self: self.gone is not None)
    @rule()
    def come_back(self) -> None:
        """A worker whose lease has ended writes what it has."""
        assert self.gone is not None
        part, lease, seq = self.gone
        self.run(
            "commit_turn",
            part,
            lease,
            "succeeded",
            "{}",
            "",
            "{}",
            "",
            0,
            0,
            seq + 5,
            0,
            LEASE,
            "w",
            "20",
            "",
            1,
            "",
            "",
            "",
            0,
            0,
            0,
        )

    @precondition(lambda self: self.held is not None)
    @rule()
    def renew(self) -> None:
        assert self.held is not None
        self.run("renew_lease", self.held[1], LEASE, self.held[0])

    @rule(n=st.integers(0, 7), lost_reply=again)
    def cancel(self, n: int, lost_reply: bool) -> None:
        open_turns = [part for part, turn in self.seen.turns.items() if turn.status not in FINAL]
        if open_turns:
            self.run("cancel_turn", open_turns[n % len(open_turns)], lost_reply=lost_reply)

    @rule(ms=st.sampled_from([100, 1_000, 4_000]))
    def time_passes(self, ms: int) -> None:
        self.store.advance(self.store.now + ms)
        self.store.run("rescue_partition", None, 500)
        held = self.seen.keys.get("lease")
        if self.held is not None and held != self.held[1]:
            self.gone = self._taken()

    @rule(op=st.sampled_from(["begin", "later", "commit", "pass"]), pause=pauses, webhook=again)
    def goes_on(self, op: str, pause: int, webhook: bool) -> None:
        """One more step of ordinary work. Hypothesis leaves out whole rules at times; this one gets far without."""
        if op == "pass":
            self.time_passes(1_000)
        elif self.held is None and not self.seen.mailbox:
            self.accept("enqueue", webhook, True, 900_000, "", 3, False)
        elif self.held is None:
            self.wake(True, False, False)
        elif op == "commit":
            self.commit("succeeded", True, False)
        else:
            self.release("later", pause, False)

    goes_on_further = goes_on_still = goes_on

    # --- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def each_end_is_told_once(self) -> None:
        seen = self.seen
        told = {part for part, turn in seen.turns.items() if (turn.record or {}).get("webhook")}
        ended = [part for part in told if seen.turns[part].status in FINAL]
        waiting = self._ends(seen.keys.get("outbox", []))
        assert sorted([*self.acked, *waiting]) == sorted(ended)
        assert told == self.with_webhook

    @invariant()
    def no_open_turn_is_lost(self) -> None:
        seen = self.seen
        is_open = sorted(part for part, turn in seen.turns.items() if turn.status not in FINAL)
        beside = set(seen.keys.get("later", {})) | set(seen.keys.get("waiting", {}))
        assert sorted(set(seen.mailbox) | beside) == is_open
        assert len(set(seen.mailbox)) == len(seen.mailbox)
        assert int(seen.meta.get("open", 0)) == len(is_open)

    @invariant()
    def somebody_looks_in_time(self) -> None:
        snapshot = self.store.snapshot()
        seen, at = snapshot.sessions.get(NAME, StoredSession()), snapshot.wakeups.get(NAME)
        due = [snapshot.now] if seen.keys.get("outbox") else []
        due += [*seen.keys.get("later", {}).values(), *seen.keys.get("waiting", {}).values()]
        if due:
            assert at is not None
            assert at <= max(min(due), snapshot.now + LONGEST_LOOK)
        elif not seen.mailbox:
            assert at is None

    def teardown(self) -> None:
        """In the end everything is delivered, and no worker has to look any more."""
        self.held = None
        for _ in range(60):
            self.store.advance(self.store.now + LEASE)
            self.store.run("rescue_partition", None, 500)
            self.wake(True, False, False)
            if self.held is not None:
                self.commit("succeeded", False, False)
                self.held = None
        assert sorted(self.acked) == sorted(self.with_webhook)
        assert self.store.snapshot().wakeups == {}


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A separate database on the shared server."""
    with redis.Redis(port=server.port, db=10) as client:
        yield client
        client.flushdb()


def _run(store: VirtualStore, examples: int, *phases: Phase) -> None:
    run_state_machine_as_test(
        lambda: WebhookMachine(store),
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, database=None,
            derandomize="SF_PROPERTY_EXAMPLES" not in os.environ, suppress_health_check=list(HealthCheck),
            print_blob=False, report_multiple_bugs=False, phases=phases or (Phase.generate, Phase.shrink),
        ),
    )  # fmt: skip


def test_every_end_is_told_whatever_happens(client: redis.Redis) -> None:
    """Clients, workers, crashes, stalls, pauses, deadlines and lost replies in any order."""
    _run(VirtualStore(client), int(os.environ.get("SF_PROPERTY_EXAMPLES", "60")))


_OUTBOX = "redis.call('EXISTS', S .. ':outbox') == 1"
BROKEN: dict[str, Edits] = {
    "a turn begins before the last one's end is told": {"*": ((f"elseif {_OUTBOX} then", "elseif false then"),)},
    "the outbox is no reason to look": {"*": ((f"if {_OUTBOX} then --", "if false then --"),)},
    "what pauses is forgotten": {"*": (("':mailbox', id)\n  end\nend", "':nowhere', id)\n  end\nend"),)},
    "what pauses is no reason to look": {
        "*": (("ipairs({ ':waiting', ':later', ':schedules", "ipairs({ ':waiting', ':schedules"),)
    },
    "a cancel forgets to have the session looked at": {
        "cancel_turn": (("reindex(now)\nreturn { 'cancelled'", "return { 'cancelled'"),)
    },
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_script_is_found(broken: str, client: redis.Redis) -> None:
    """The state machine fails when a script has a mistake: the property can be violated."""
    for name, pairs in BROKEN[broken].items():
        texts = [script(each).text for each in (script_names() if name == "*" else (name,))]
        assert all(any(old in text for text in texts) for old, _ in pairs), "the scripts have changed: adapt BROKEN"
    with pytest.raises(AssertionError):
        _run(VirtualStore(client, BROKEN[broken]), 400, Phase.generate)
