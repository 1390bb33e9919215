"""What the scripts do for policies and for turns that wait, on a plain server and on one in cluster mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from broker_config.settings import Settings
from sessions.errors import BadRequest, CallAnswered, CallNotFound, IdempotencyConflict, SessionBusy, TurnNotFound
from sessions.protocol.call import CallAnswer, CallKind, WaitingCall
from sessions.protocol.turn import Policy, TurnError, TurnRequest, TurnStatus
from sessions.store.acceptance import Accepted, CancelledRun
from sessions.store.calls import CallStore
from sessions.store.keys import new_turn_part
from sessions.store.leases import CancelFirst, Committed, Ending
from sessions.store.open_turn import Closing, OpenTurn
from sessions.store.sealing import KeyRing
from sessions.store.submission import Submission, idempotency_hash
from sessions.store.transitions.fleet import rescue_partition
from sessions.store.transitions.leases import NothingToRun, StepReply
from sessions.store.wake_up import WakeUp
from tests.scripts.test_scripts import DONE, PLACES, Store, settings_for

KEPT = Ending(TurnStatus.CANCELLED, history_entry=b'{"turn":"kept"}\n[]', messages=1)


class Line(Store):
    """A session's line of turns."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.calls = CallStore(self.scripts, KeyRing.of(settings))

    async def send(self, policy: Policy = Policy.ENQUEUE, agent: str = "A", **options: Any) -> Accepted:
        submission = Submission(
            TurnRequest(message="hi", agent=agent), queue="turns", timeout=900.0, config=b"{}", policy=policy, **options
        )
        return await self.turns.accept(self.keys, submission)

    async def statuses(self, *parts: str) -> list[TurnStatus]:
        return [(await self.turns.read(self.keys, part)).status for part in parts]

    async def mailbox(self) -> list[str]:
        return [part.decode() for part in await self.client.lrange(self.keys.mailbox, 0, -1)]

    async def history(self) -> int:
        return int(await self.client.llen(self.keys.history))

    async def park(self, begun: OpenTurn, *call_ids: str, kind: CallKind = CallKind.APPROVAL) -> Any:
        asks = [
            WaitingCall(key=f"1:{kind}:{c}", call_id=c, tool="t", kind=kind, place=n) for n, c in enumerate(call_ids)
        ]
        stored = {ask.key: ask.model_dump_json().encode() for ask in asks}
        return await self.leases.wait(self.keys, begun, stored, 2, b"{}")

    async def close(self, part: str, why: Closing, nonce: str = "closer") -> Committed:
        """A worker takes the turn to record what it had completed, and ends it."""
        begun = await self.begin(nonce)
        assert (begun.part, begun.closing) == (part, why)
        status = {Closing.CANCELLED: TurnStatus.CANCELLED, Closing.DEAD_LETTERED: TurnStatus.DEAD_LETTERED}
        ending = replace(KEPT, status=status.get(why, TurnStatus.FAILED))
        return await self.leases.commit(self.keys, begun, ending, 1, go_on=False, last_ok=True)

    async def answer(self, part: str, call_id: str, action: Any = "approve", **more: Any) -> WakeUp | None:
        return (await self.calls.answer(self.keys, part, call_id, CallAnswer(action=action, **more))).wake_up

    async def kinds(self, part: str) -> list[str]:
        entries = await self.client.xrange(self.keys.events(part))
        return [fields[b"type"].decode() for _, fields in entries]

    async def score(self) -> float | None:
        found = await self.client.zscore(f"{self.keys.partition}:wakeups", self.keys.ref)
        return None if found is None else float(found)


@pytest.fixture(params=PLACES)
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    line = Line(settings_for(request))
    yield line
    await line.turns.delete_session(line.keys)
    assert all(":op:" in key for key in await line.left())  # those end by themselves
    await line.client.aclose()


# --- policies -------------------------------------------------------------------------------------------------


async def test_reject_takes_nothing_while_a_turn_is_open(line: Line) -> None:
    """Queued, running or waiting: each is open. Afterwards it is accepted."""
    first = await line.send(Policy.REJECT)
    with pytest.raises(SessionBusy, match="reject"):
        await line.send(Policy.REJECT)
    begun = await line.begin()
    await line.park(begun, "c1")
    with pytest.raises(SessionBusy):
        await line.send(Policy.REJECT)
    await line.turns.cancel(line.keys, first.part)
    await line.close(first.part, Closing.CANCELLED)
    assert (await line.send(Policy.REJECT)).wake_up


async def test_an_interrupt_comes_next_and_cancels_those_before_it(line: Line) -> None:
    """The running turn is marked and its worker named; the queued ones end; the new one comes directly after."""
    first, second, third = [(await line.send()).part for _ in range(3)]
    begun = await line.begin()
    sent = await line.send(Policy.INTERRUPT)
    assert sent.cancelled == CancelledRun("w1@test", first)
    assert not sent.wake_up
    assert await line.mailbox() == [first, sent.part]
    assert await line.statuses(first, second, third) == ["running", "cancelled", "cancelled"]
    assert await line.leases.record(line.keys, begun, "k", b"v", 2, []).done() is StepReply.CANCEL
    done = await line.leases.commit(line.keys, begun, KEPT, 3, go_on=True, last_ok=True)
    assert done.next is not None
    assert done.next.part == sent.part
    assert await line.statuses(first) == ["cancelled"]
    assert await line.history() == 1


@pytest.mark.parametrize(("policy", "entries"), [(Policy.INTERRUPT, 1), (Policy.ROLLBACK, 0)])
async def test_the_mark_wins_over_a_commit_that_comes_later(line: Line, policy: Policy, entries: int) -> None:
    """A turn that succeeded a moment too late is cancelled; an interrupt keeps its messages, a rollback nothing."""
    first = (await line.send()).part
    begun = await line.begin()
    await line.send(policy)
    assert (await line.commit(begun)).status is TurnStatus.CANCELLED
    record = await line.turns.read(line.keys, first)
    assert (record.status, record.result) == (TurnStatus.CANCELLED, None)
    assert await line.history() == entries


async def test_a_cancel_keeps_what_was_finished(line: Line) -> None:
    """A tool may have had its effect: only a rollback makes the history forget it."""
    first = (await line.send()).part
    begun = await line.begin()
    await line.turns.cancel(line.keys, first)
    await line.leases.commit(line.keys, begun, KEPT, 3, go_on=True, last_ok=True)
    assert await line.history() == 1


async def test_a_turn_that_fails_keeps_what_was_finished(line: Line) -> None:
    """In the step that ends it; if that is sent again after a lost reply, the entry is there once."""
    await line.send()
    begun = await line.begin()
    failed = replace(KEPT, status=TurnStatus.FAILED, error=b"{}")
    for _ in range(2):
        done = await line.leases.commit(line.keys, begun, failed, 3, go_on=True, last_ok=True)
        assert done.status is TurnStatus.FAILED
        assert await line.history() == 1


@pytest.mark.parametrize("blocks", [True, False])
async def test_a_waiting_turn_that_is_cancelled_is_written_down_by_a_worker(line: Line, blocks: bool) -> None:
    """In the mailbox or outside it. It is queued meanwhile, and no attempt is counted."""
    first = (await line.send(waiting_blocks=blocks)).part
    await line.park(await line.begin(), "c1")
    assert await line.turns.cancel(line.keys, first) == (TurnStatus.QUEUED, "")
    assert await line.turns.cancel(line.keys, first) == (TurnStatus.QUEUED, "")
    assert await line.mailbox() == [first]
    assert (await line.close(first, Closing.CANCELLED)).status is TurnStatus.CANCELLED
    assert (await line.turns.read(line.keys, first)).attempt == 1
    assert (await line.history(), await line.mailbox(), await line.score()) == (1, [], None)


async def test_a_turn_past_its_deadline_is_written_down_by_a_worker(line: Line) -> None:
    """It was begun, so it may have had effects; one that never began has none."""
    begun_once, never_begun = (await line.send()).part, (await line.send()).part
    await line.leases.release(line.keys, await line.begin(), "retry", 0, 2, None, {})
    for part in (begun_once, never_begun):
        await line.client.hset(line.keys.turn(part), "deadline", 1)
    assert (await line.close(begun_once, Closing.DEADLINE)).status is TurnStatus.FAILED
    assert await line.leases.acquire(line.keys, "n", last_ok=True) is NothingToRun.EMPTY
    assert await line.statuses(never_begun) == ["failed"]
    assert await line.history() == 1


async def test_a_worker_that_dies_over_a_turn_s_end_is_the_last_one(line: Line) -> None:
    """One more worker records a dead letter. If that crashes as well, the turn ends without an entry."""
    first = (await line.send()).part
    for attempt in range(line.settings.max_attempts):
        await line.begin(f"n{attempt}")
        await line.lose_lease()
    begun = await line.begin("closer")
    assert begun.closing is Closing.DEAD_LETTERED
    assert (await line.begin("closer")).closing is Closing.DEAD_LETTERED, "sent again after a lost reply"
    await line.lose_lease()
    assert await line.leases.acquire(line.keys, "next", last_ok=True) is NothingToRun.EMPTY
    assert await line.statuses(first) == ["dead_lettered"]
    assert await line.history() == 0


async def test_an_interrupted_turn_without_a_worker_is_written_down_by_the_next(line: Line) -> None:
    """Begun, then crashed: the next worker gets it to keep what it completed, and runs nothing."""
    first = (await line.send()).part
    await line.begin()
    await line.lose_lease()
    sent = await line.send(Policy.INTERRUPT)
    assert sent.wake_up
    begun = await line.begin("n2")
    assert (begun.part, begun.closing) == (first, Closing.CANCELLED)
    done = await line.leases.commit(line.keys, begun, KEPT, 3, go_on=True, last_ok=True)
    assert (done.status, done.next is not None and done.next.part) == (TurnStatus.CANCELLED, sent.part)
    assert done.next is not None
    assert done.next.closing is None


async def test_a_rollback_ends_a_crashed_turn_at_once(line: Line) -> None:
    """Nothing of the turn is kept, so no worker is needed to end it."""
    first = (await line.send()).part
    await line.begin()
    await line.lose_lease()
    sent = await line.send(Policy.ROLLBACK)
    assert await line.statuses(first) == ["cancelled"]
    assert (await line.begin("n2")).part == sent.part


async def test_an_interrupt_makes_room(line: Line) -> None:
    """A full mailbox does not refuse the message that empties it."""
    line.turns._settings = line.settings.model_copy(update={"mailbox_limit": 2})
    parts = [(await line.send()).part for _ in range(2)]
    with pytest.raises(SessionBusy):
        await line.send()
    sent = await line.send(Policy.INTERRUPT)
    assert await line.statuses(*parts) == ["cancelled", "cancelled"]
    assert await line.mailbox() == [sent.part]


@pytest.mark.parametrize("blocks", [True, False])
async def test_a_turn_that_waits_takes_one_place(line: Line, blocks: bool) -> None:
    """It counts once, whether or not it is in the mailbox in the meantime."""
    line.turns._settings = line.settings.model_copy(update={"mailbox_limit": 2})
    await line.send(waiting_blocks=blocks)
    await line.park(await line.begin(), "c1")
    await line.send()
    with pytest.raises(SessionBusy, match="has 2 turns"):
        await line.send()


async def test_steering_joins_the_turn_that_runs(line: Line) -> None:
    """No new turn; the commit waits until it was read; reading it is journalled with its event."""
    first = (await line.send()).part
    begun = await line.begin()
    steered = await line.send(Policy.STEER)
    assert steered.part == first
    assert await line.mailbox() == [first]
    assert await line.leases.record(line.keys, begun, "k", b"v", 2, []).done() is StepReply.STEER
    refused = await line.commit(begun)
    assert refused.steered
    assert await line.statuses(first) == ["running"]
    taken = await line.leases.take_steering(line.keys, begun, "steer:2", 3)
    assert taken == (b'["hi"]', 1)
    assert await line.leases.take_steering(line.keys, begun, "steer:2", 3) == taken  # sent again
    assert await line.kinds(first) == ["started", "steered"]
    assert (await line.commit(begun)).status is TurnStatus.SUCCEEDED


async def test_steering_waits_in_line_when_there_is_nothing_to_join(line: Line) -> None:
    """Nothing open, not yet begun, another agent's, or about to end: then it is a turn of its own."""
    first = await line.send(Policy.STEER)
    second = await line.send(Policy.STEER)
    assert len({first.part, second.part}) == 2
    await line.begin()
    other = await line.send(Policy.STEER, agent="B")
    assert other.part != first.part
    await line.turns.cancel(line.keys, first.part)
    assert (await line.send(Policy.STEER)).part != first.part


async def test_a_repeated_steering_message_is_not_doubled(line: Line) -> None:
    """Neither with its idempotency key nor when the script is sent again; and the key outlives the turn."""
    first = (await line.send()).part
    begun = await line.begin()
    part = new_turn_part()
    for _ in range(2):
        assert (await line.send(Policy.STEER, part=part, idempotency_key="k")).part == first
    again = await line.send(Policy.STEER, idempotency_key="k")
    assert (again.part, again.duplicate) == (first, True)
    assert await line.leases.take_steering(line.keys, begun, "steer:2", 3) == (b'["hi"]', 1)
    await line.commit(begun)
    assert await line.client.pttl(line.keys.idempotency(idempotency_hash("k"))) > 0
    other = Submission(TurnRequest(message="other"), queue="turns", timeout=900.0, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await line.turns.accept(line.keys, other)


# --- waiting --------------------------------------------------------------------------------------------------


async def test_a_waiting_turn_holds_its_place_and_no_lease(line: Line) -> None:
    """Its calls are visible, its lease is free, later turns wait; it is looked at when its time is over."""
    first = (await line.send(approval_timeout=600.0)).part
    await line.send()
    begun = await line.begin()
    assert await line.park(begun, "c1", "c2") is None
    assert await line.park(begun, "c1", "c2") is None  # sent again after a lost reply
    assert await line.statuses(first) == ["waiting"]
    assert [c.call_id for c in await line.calls.pending(line.keys, first)] == ["c1", "c2"]
    assert not await line.client.exists(f"{line.keys.base}:lease")
    assert await line.leases.acquire(line.keys, "n2", last_ok=True) is NothingToRun.WAITING
    deadline = await line.client.zscore(f"{line.keys.base}:waiting", first)
    assert await line.score() == deadline
    assert abs(deadline - begun.now_ms - 600_000) < 60_000


async def test_pending_calls_come_in_the_order_in_which_they_were_made(line: Line) -> None:
    """A hash keeps no order once its values are long, in Redis even less than in Valkey."""
    first = (await line.send()).part
    made = [f"c{n}" for n in (7, 3, 9, 1, 8, 2, 6, 0, 5, 4)]
    assert await line.park(await line.begin(), *made) is None
    assert [c.call_id for c in await line.calls.pending(line.keys, first)] == made


async def test_the_last_answer_lets_it_go_on(line: Line) -> None:
    """The same attempt, with the journal and the answers in it, and more time: waiting did not count."""
    first = (await line.send()).part
    begun = await line.begin()
    await line.leases.record(line.keys, begun, "model:1", b"v", 2, []).done()
    await line.park(begun, "c1", "c2")
    assert await line.answer(first, "c1") is None
    assert await line.statuses(first) == ["waiting"]
    assert await line.answer(first, "c2", "deny", reason="no") is not None
    assert await line.statuses(first) == ["queued"]
    again = await line.begin("n2")
    assert (again.part, again.attempt, again.journal["model:1"]) == (first, 1, b"v")
    assert {"answer:1:approval:c1", "answer:1:approval:c2"} <= set(again.journal)
    assert again.deadline_ms >= begun.deadline_ms
    assert await line.kinds(first) == ["started", "waiting", "answered", "answered", "resumed"]
    assert (await line.commit(again)).status is TurnStatus.SUCCEEDED


async def test_the_first_answer_counts(line: Line) -> None:
    """The same again is fine, another one is refused and says what came first; also when the turn has gone on."""
    first = (await line.send()).part
    await line.park(await line.begin(), "c1", "c2")
    await line.answer(first, "c1")
    assert await line.answer(first, "c1") is None
    with pytest.raises(CallAnswered, match="approve"):
        await line.answer(first, "c1", "deny", reason="no")
    with pytest.raises(CallNotFound, match="'c2'"):
        await line.answer(first, "c9")
    with pytest.raises(BadRequest, match="approve"):
        await line.answer(first, "c2", "provide", result=1)
    await line.answer(first, "c2")
    with pytest.raises(CallAnswered):
        await line.answer(first, "c2", "deny")
    begun = await line.begin("n2")
    await line.commit(begun)
    with pytest.raises(CallNotFound):
        await line.answer(first, "c2")
    with pytest.raises(TurnNotFound):
        await line.answer(new_turn_part(), "c2")


async def test_later_turns_may_overtake_one_that_waits(line: Line) -> None:
    """It leaves the mailbox, and later turns run; once answered, it follows the running one, before queued ones."""
    first = (await line.send(waiting_blocks=False)).part
    second = (await line.send()).part
    third = (await line.send()).part
    assert await line.park(await line.begin(), "c1") is not None  # a wake-up for the second
    assert await line.mailbox() == [second, third]
    running = await line.begin("n2")
    assert running.part == second
    assert await line.answer(first, "c1") is None  # the worker that runs the second one resumes it
    assert await line.mailbox() == [second, first, third]
    done = await line.commit(running)
    assert done.next is not None
    assert done.next.part == first


async def test_an_overtaken_turn_comes_first_when_nothing_runs(line: Line) -> None:
    """It comes before turns that were never begun."""
    first = (await line.send(waiting_blocks=False)).part
    await line.park(await line.begin(), "c1")
    second = (await line.send()).part
    assert await line.answer(first, "c1") is not None
    assert await line.mailbox() == [first, second]


@pytest.mark.parametrize("blocks", [True, False])
async def test_an_unanswered_turn_fails_in_time(line: Line, blocks: bool) -> None:
    """In the mailbox or outside it: the rescuer has a worker record what it completed; the session continues."""
    first = (await line.send(waiting_blocks=blocks, approval_timeout=0.05)).part
    await line.park(await line.begin(), "c1")
    second = (await line.send()).part
    at = f"{line.keys.base}:waiting"
    await line.client.zadd(at, {first: 1})
    await line.client.zadd(f"{line.keys.partition}:wakeups", {line.keys.ref: 1})
    looked = await line.scripts.run(rescue_partition((line.keys.partition,), most=500))
    assert line.keys.ref in dict(looked.due)
    closing = await line.begin("n1")
    assert (closing.part, closing.closing) == (first, Closing.UNANSWERED)
    error = TurnError(type="ApprovalTimeout", message="nobody answered").model_dump_json().encode()
    ending = replace(KEPT, status=TurnStatus.FAILED, error=error)
    await line.leases.commit(line.keys, closing, ending, 1, go_on=False, last_ok=True)
    record = await line.turns.read(line.keys, first)
    assert record.error is not None
    assert (record.status, record.error.type) == (TurnStatus.FAILED, "ApprovalTimeout")
    assert not await line.client.exists(at)
    assert (await line.begin("n2")).part == second


async def test_a_lone_waiting_turn_keeps_its_session_in_the_index(line: Line) -> None:
    """No key without TTL is out of sight: also when the mailbox is empty (R3)."""
    first = (await line.send(waiting_blocks=False, session_ttl=60.0)).part
    await line.park(await line.begin(), "c1")
    assert await line.mailbox() == []
    assert await line.score() == await line.client.zscore(f"{line.keys.base}:waiting", first)
    assert await line.client.pttl(line.keys.meta) == -1
    await line.turns.cancel(line.keys, first)
    await line.close(first, Closing.CANCELLED)
    assert await line.score() is None
    assert await line.client.pttl(line.keys.meta) > 0


async def test_a_waiting_turn_can_be_cancelled_and_interrupted(line: Line) -> None:
    """Either has a worker record what it completed; it can no longer be answered."""
    first = (await line.send()).part
    begun = await line.begin()
    await line.park(begun, "c1")
    sent = await line.send(Policy.INTERRUPT)
    assert sent.wake_up
    assert await line.statuses(first) == ["queued"]
    again = await line.begin("n2")
    assert (again.part, again.closing) == (first, Closing.CANCELLED)
    done = await line.leases.commit(line.keys, again, KEPT, 3, go_on=True, last_ok=True)
    assert done.next is not None
    await line.park(done.next, "c1")
    assert await line.turns.cancel(line.keys, sent.part) == (TurnStatus.QUEUED, "")
    with pytest.raises(CallNotFound):
        await line.answer(sent.part, "c1")


async def test_a_cancel_comes_before_waiting(line: Line) -> None:
    """A cancelled turn does not wait for approvals first."""
    first = (await line.send()).part
    begun = await line.begin()
    await line.turns.cancel(line.keys, first)
    with pytest.raises(CancelFirst):
        await line.park(begun, "c1")
    assert await line.calls.pending(line.keys, first) == []


async def test_deleting_a_session_removes_turns_that_wait(line: Line) -> None:
    """Also one that is in no line; the receipt counts it as open."""
    await line.send(waiting_blocks=False)
    await line.park(await line.begin(), "c1")
    await line.send()
    removed = await line.turns.delete_session(line.keys)
    assert (removed["turns"], removed["open_turns"]) == (2, 2)
    assert await line.left() == []


async def test_a_crash_while_others_wait_counts_for_nobody_else(line: Line) -> None:
    """Waiting for approvals counts neither as an attempt nor as a crash."""
    first = (await line.send()).part
    for round_ in range(5):
        begun = await line.begin(f"n{round_}")
        ask = WaitingCall(key=f"{round_}:approval:c1", call_id="c1", tool="t", kind=CallKind.APPROVAL)
        await line.leases.wait(line.keys, begun, {ask.key: ask.model_dump_json().encode()}, 2, b"{}")
        await line.answer(first, "c1")
    record = await line.turns.read(line.keys, first)
    assert (record.attempt, record.crashes) == (1, 0)
    assert (await line.commit(await line.begin("last"))).status is DONE.status
