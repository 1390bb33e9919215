"""Turn policies against a plain model: a list of turns with marks, in any order of messages, cancels and crashes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from broker_config.settings import Settings
from sessions.errors import SessionBusy
from sessions.protocol.turn import Policy, TurnStatus
from sessions.store.keys import new_turn_part
from sessions.store.leases import Ending
from sessions.store.open_turn import Closing, OpenTurn
from tests.scripts.test_policies import Line
from tests.support.servers import Server


@dataclass
class Open:
    """A turn that has not ended, as the model knows it."""

    part: str
    begun: bool = False
    cancelled: bool = False
    forget: bool = False
    crashes: int = 0

    def mark(self, how: Policy) -> None:
        """The first mark stands, except that a rollback forgets what all others would keep."""
        self.forget = self.forget or how is Policy.ROLLBACK
        self.cancelled = True


class PolicyMachine(RuleBasedStateMachine):
    """One session's line; one worker at a time, which may die."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.line: Line = self.do(self._make())
        self.mailbox: list[Open] = []
        self.ended: dict[str, TurnStatus] = {}
        self.history: list[str] = []
        self.unread = 0  # steering messages in the head's inbox
        self.taken = 0
        self.held: OpenTurn | None = None

    async def _make(self) -> Line:
        return Line(Settings(redis_url=self.url, max_attempts=100))  # type: ignore[call-arg]

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.do(self.line.turns.delete_session(self.line.keys))
        self.do(self.line.client.aclose())
        self.runner.close()

    def end(self, turn: Open, status: TurnStatus) -> None:
        assert turn.part not in self.ended, "a turn ends once"
        if self.mailbox[0] is turn:
            self.unread = 0
        self.mailbox.remove(turn)
        self.ended[turn.part] = status

    # --- what clients do --------------------------------------------------------------------------------

    @rule(policy=st.sampled_from(list(Policy)))
    def send(self, policy: Policy) -> None:
        part = new_turn_part()
        if policy is Policy.REJECT and self.mailbox:
            with pytest.raises(SessionBusy):
                self.do(self.line.send(policy, part=part))
            return
        accepted = self.do(self.line.send(policy, part=part))
        head = self.mailbox[0] if self.mailbox else None
        if policy is Policy.STEER and head and head.begun and not head.cancelled:
            assert accepted.part == head.part
            self.unread += 1
            return
        assert accepted.part == part
        if policy in (Policy.INTERRUPT, Policy.ROLLBACK):
            self._clear(policy)
        self.mailbox.append(Open(part))

    def _clear(self, policy: Policy) -> None:
        for index, turn in enumerate(list(self.mailbox)):
            running = index == 0 and self.held is not None
            if running or (index == 0 and turn.begun and policy is Policy.INTERRUPT):
                turn.mark(policy)
            else:
                self.end(turn, TurnStatus.CANCELLED)

    @precondition(lambda self: self.mailbox)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.mailbox))
        self.do(self.line.turns.cancel(self.line.keys, turn.part))
        if turn.begun:
            turn.cancelled = True  # a worker records what it completed, and ends it
        else:
            self.end(turn, TurnStatus.CANCELLED)

    # --- what the worker does ---------------------------------------------------------------------------

    @precondition(lambda self: self.held is None)
    @rule()
    def begin(self) -> None:
        got = self.do(self.line.leases.acquire(self.line.keys, new_turn_part(), last_ok=True))
        while self.mailbox and self.mailbox[0].cancelled and (self.mailbox[0].forget or not self.mailbox[0].begun):
            self.end(self.mailbox[0], TurnStatus.CANCELLED)
        if not self.mailbox:
            assert not isinstance(got, OpenTurn)
            return
        assert isinstance(got, OpenTurn)
        assert got.part == self.mailbox[0].part, "the head, and nobody else"
        assert (got.closing is Closing.CANCELLED) == self.mailbox[0].cancelled
        self.mailbox[0].begun = True
        self.held = got

    @precondition(lambda self: self.held is not None)
    @rule()
    def commit(self) -> None:
        assert self.held is not None
        head, entry = self.mailbox[0], f'{{"turn":"{self.held.part}"}}\n[]'.encode()
        ending = Ending(TurnStatus.SUCCEEDED, result=b"{}", history_entry=entry, messages=1)
        done = self.do(self.line.leases.commit(self.line.keys, self.held, ending, 10**6, go_on=False, last_ok=True))
        if self.unread and not head.cancelled:
            assert done.steered, "unread steering wants one more model call"
            self.taken += 1  # each model request takes its own; a key that was written takes nothing more
            self.do(self.line.leases.take_steering(self.line.keys, self.held, f"steer:{self.taken}", 100 * self.taken))
            self.unread = 0
            return
        if not head.forget:
            self.history.append(head.part)
        self.end(head, TurnStatus.CANCELLED if head.cancelled else TurnStatus.SUCCEEDED)
        self.held = None

    @precondition(lambda self: self.held is not None)
    @rule()
    def die(self) -> None:
        """The worker is gone; its lease runs out."""
        self.do(self.line.lose_lease())
        self.held = None

    # --- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def store_and_model_agree(self) -> None:
        assert self.do(self.line.mailbox()) == [turn.part for turn in self.mailbox]
        assert self.do(self.line.statuses(*self.ended)) == list(self.ended.values())
        entries = self.do(self.line.client.lrange(self.line.keys.history, 0, -1))
        assert [entry.split(b'"')[3].decode() for entry in entries] == self.history
        scored = self.do(self.line.score()) is not None
        assert scored == bool(self.mailbox), "somebody looks at the session as long as a turn is open, and no longer"


def test_policies_do_what_they_say(new_server: Server) -> None:
    """Reject refuses, interrupt and cancel keep and rollback forgets what a turn completed, steering joins it.

    On a separate server: workers of the shared one would rescue what stands still for two seconds here.
    """
    PolicyMachine.url = new_server.url
    examples = int(os.environ.get("SF_PROPERTY_EXAMPLES", "150"))
    run_state_machine_as_test(
        PolicyMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
