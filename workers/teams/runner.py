"""Runs a team: one look at its tasks, then the slot is free until one of them ends.

    collect what ended -> plan -> skip what can never begin -> submit what is ready -> end, or wait

A run is a turn, and so is each of its tasks: they are accepted, leased, journalled, retried and resumed like all
others, which is what makes a run outlive its client and its workers. What a look finds out is journalled in the run,
so that no task is begun twice and no answer is fetched twice. See docs/adr/0008.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import (
    BackendError,
    OutputInvalid,
    ResultTooLarge,
    SessionBusy,
    SessionOwnerError,
    StoreFull,
    StoreUnavailable,
)
from sessions.protocol.event import EventType
from sessions.protocol.team import MemberSpec, TeamSpec
from sessions.protocol.team_result import TaskResult, TaskStatus, TeamResult
from sessions.protocol.turn import TurnError, TurnRequest, TurnStatus, total
from sessions.store.leases import Ending
from workers.engine.ports import EventDraft
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal, persist
from workers.lease.outcomes import Pause
from workers.teams.delegations import TASKS_MARK, Delegations
from workers.teams.plan import (
    Plan,
    fixed_plan,
    managed_plan,
    manager_prompt,
    plan_schema,
    ready,
    skipped,
    task_prompt,
)
from workers.teams.tasks import Seat, TaskTurns, task_result

_log = get_logger(__name__)
_POLL: Final = 2.0
_BOSS: Final = "manager"
_SHOWN_CHARS: Final = 200
_LEAST_SECONDS: Final = 1.0


class TeamRunner:
    """Runs teams. One per worker process."""

    def __init__(self, settings: Settings, turns: TaskTurns) -> None:
        self._settings = settings
        self._turns = turns

    async def advance(self, held: HeldTurn, team: TeamSpec, journal: LeasedJournal) -> Ending | Pause:
        """Take a run as far as it can go now.

        Raises:
            OutputInvalid: the manager made no plan that can be used. ResultTooLarge: the answers are.
            LeaseLost: as the journal raised it.
        """
        look = _Look(held, team, journal, self._turns)
        await journal.emit(())  # it may have been cancelled while nobody held it: then this is where we hear of it
        try:
            if journal.lookup(TASKS_MARK) is None:
                await journal.record(TASKS_MARK, b"1")  # before the first task: from here on a cancel reaches it
            await look.collect()
            plan = await look.plan()
            if plan is not None:
                await look.skip(plan)
                await look.begin_ready(plan)
                if (results := look.results()) is not None:
                    return self._ending(look, plan, results)
        except (StoreFull, StoreUnavailable) as error:
            _log.warning("run_paused", run=held.turn_id, error=str(error))
        return Pause(_POLL)

    async def cancel(self, held: HeldTurn, team: TeamSpec, journal: LeasedJournal) -> None:
        """Cancel the tasks that have not ended.

        Raises:
            LeaseLost: the lease ended before all were told.
        """
        look = _Look(held, team, journal, self._turns)
        for seat, step in look.open_seats():
            await persist(held, lambda seat=seat, step=step: self._turns.cancel(seat, step and step.turn))  # type: ignore[misc]

    def delegations(self, held: HeldTurn, request: TurnRequest, journal: LeasedJournal) -> Delegations:
        """The agents that a turn asks: turns of their own, as tasks are."""
        return Delegations(self._settings, self._turns, held, request, journal)

    async def nudge(self, run_id: str, tenant: str) -> None:
        """Have a run looked at now, because one of its tasks ended. Lost, that costs a pause and no more."""
        try:
            await self._turns.nudge(run_id, tenant)
        except BackendError as error:
            _log.warning("run_not_nudged", run=run_id, error=str(error))

    def _ending(self, look: _Look, plan: Plan, results: list[TaskResult]) -> Ending:
        spent = [result.usage for result in results]
        boss = look.step(_BOSS)
        if boss is not None and boss.result is not None:
            spent.append(boss.result.usage)
        whole = TeamResult(tasks=tuple(results), last=plan.last, usage=total(spent))
        raw = json.dumps({"text": whole.text, "output": whole.model_dump(mode="json")}).encode()
        if len(raw) > self._settings.result_limit_bytes:
            raise ResultTooLarge(f"the answers of all tasks have {len(raw)} bytes. {ResultTooLarge.__doc__}")
        return Ending(TurnStatus.SUCCEEDED, result=raw, usage=whole.usage.model_dump_json().encode())


class _Step(BaseModel):
    """A task as it stands in the run's journal: its turn, and what came of it."""

    turn: str | None = None
    result: TaskResult | None = None


@dataclass(slots=True)
class _Look:
    """One look at a run."""

    held: HeldTurn
    team: TeamSpec
    journal: LeasedJournal
    turns: TaskTurns

    # --- what is known ----------------------------------------------------------------------------------

    def step(self, key: str) -> _Step | None:
        """What the journal says of a task, or of the manager's turn."""
        raw = self.journal.lookup(f"task:{key}")
        return None if raw is None else _Step.model_validate_json(raw)

    def begun(self) -> dict[int, TaskResult | None]:
        """The tasks that were begun or skipped, with the result of those that ended."""
        steps = ((index, self.step(str(index))) for index in range(len(self.team.tasks)))
        return {index: step.result for index, step in steps if step is not None}

    def results(self) -> list[TaskResult] | None:
        """What came of all tasks, once all have ended."""
        found = [result for _, result in sorted(self.begun().items()) if result is not None]
        return found if len(found) == len(self.team.tasks) else None

    def known_plan(self) -> Plan | None:
        """The plan, if there is one by now.

        Raises:
            OutputInvalid: the manager's answer is none.
        """
        if self.team.process != "hierarchical":
            return fixed_plan(self.team)
        boss = self.step(_BOSS)
        if boss is None or boss.result is None:
            return None
        if not boss.result.ok:
            why = boss.result.error.message if boss.result.error else boss.result.status
            names = ", ".join(repr(member.config.name) for member in self.team.members)
            raise OutputInvalid(
                f"the manager {boss.result.agent!r} made no plan that can be used ({why}); a plan gives each task to "
                f"one of {names}: use a stronger manager_model=, or give the tasks their agents"
            )
        return managed_plan(self.team, boss.result.output)

    def open_seats(self) -> Iterator[tuple[Seat, _Step | None]]:
        """The tasks that have not ended, begun or not."""
        plan = self.known_plan()
        keys = [_BOSS] if self.team.manager is not None else []
        if plan is not None:
            keys += [str(index) for index in range(len(self.team.tasks))]
        for key in keys:
            step = self.step(key)
            if step is None or step.result is None:
                yield (
                    self._seat(key, self._manager() if plan is None or key == _BOSS else self._member(plan, key)),
                    step,
                )

    # --- what is done -----------------------------------------------------------------------------------

    async def collect(self) -> None:
        """Journal the tasks that have ended since the last look."""
        keys = [_BOSS, *(str(index) for index in range(len(self.team.tasks)))]
        steps = [(key, step) for key in keys if (step := self.step(key)) is not None]
        running = [(key, step.turn) for key, step in steps if step.turn is not None and step.result is None]
        records = await asyncio.gather(*(self.turns.ended(turn, self.held.keys.tenant) for _, turn in running))
        for (key, turn), record in zip(running, records, strict=True):
            if record is not None:
                await self._ended(key, turn, task_result(*self._named(key), turn, record))

    async def plan(self) -> Plan | None:
        """The plan; None while the manager makes it.

        Raises:
            OutputInvalid: the manager's answer is none.
        """
        if self.team.manager is not None and self.step(_BOSS) is None:
            await self._begin(_BOSS, self._manager(), manager_prompt(self.team))
        return self.known_plan()

    async def skip(self, plan: Plan) -> None:
        """Journal the tasks that can never begin."""
        for task, lost in skipped(plan, self.begun()).items():
            why = f"task {self.team.tasks[lost].name!r}, which it builds on, has no answer"
            error = TurnError(type="TaskSkipped", message=why)
            index, name, agent = self._named(str(task))
            result = TaskResult(index=index, name=name, agent=agent, status=TaskStatus.SKIPPED, error=error)
            await self._ended(str(task), None, result)

    async def begin_ready(self, plan: Plan) -> None:
        """Submit the tasks whose needs have their answers."""
        begun = self.begun()
        for task in ready(plan, begun):
            answers = [result for need in plan.needs[task] if (result := begun[need]) is not None]
            await self._begin(str(task), self._member(plan, str(task)), task_prompt(self.team.tasks[task], answers))

    async def _begin(self, key: str, member: MemberSpec, message: str) -> None:
        begun = self.held.turn
        left = (begun.deadline_ms - begun.now_ms) / 1000 - (time.monotonic() - self.held.attempt_started)
        try:
            turn = await self.turns.submit(self._seat(key, member), message, max(_LEAST_SECONDS, left))
        except SessionBusy:
            return  # there is room when others have ended: the next look tries again
        except SessionOwnerError as error:
            index, name, agent = self._named(key)
            why = TurnError(type="TurnFailed", message=str(error))
            failed = TaskResult(index=index, name=name, agent=agent, status=TaskStatus.FAILED, error=why)
            await self._ended(key, None, failed)
        else:
            await self._record(key, _Step(turn=turn), EventType.TASK_STARTED, agent=member.config.name)

    async def _ended(self, key: str, turn: str | None, result: TaskResult) -> None:
        shown = result.text if result.ok or result.error is None else result.error.message
        about = {"agent": result.agent, "status": result.status, "text": shown[:_SHOWN_CHARS]}
        await self._record(key, _Step(turn=turn, result=result), EventType.TASK_ENDED, **about)

    async def _record(self, key: str, step: _Step, event: EventType, **about: Any) -> None:
        index, name, _ = self._named(key)
        shown = {"index": None if key == _BOSS else index, "name": name, "turn": step.turn, **about}
        await self.journal.record(f"task:{key}", step.model_dump_json().encode(), [EventDraft(event, shown)])

    # --- who and where ----------------------------------------------------------------------------------

    def _named(self, key: str) -> tuple[int, str, str]:
        """Index, name and agent of a task; the manager's turn is named after it."""
        if key == _BOSS:
            return -1, _BOSS, self._manager().config.name
        plan = self.known_plan()
        task = self.team.tasks[int(key)]
        return int(key), task.name, self._member(plan, key).config.name if plan is not None else ""

    def _member(self, plan: Plan, key: str) -> MemberSpec:
        return self.team.members[plan.agents[int(key)]]

    def _manager(self) -> MemberSpec:
        manager = self.team.manager
        if manager is None:
            raise OutputInvalid("this team has no manager")
        config = manager.model_copy(update={"output_schema": plan_schema(self.team), "output_name": "plan"})
        return MemberSpec(config=config, queue=self.team.queue)

    def _seat(self, key: str, member: MemberSpec) -> Seat:
        return Seat(
            run=self.held.turn_id,
            key=key,
            tenant=self.held.keys.tenant,
            user_id=self.held.turn.user_id,
            member=member,
            # One after the other, tasks of a session are turns of it. At the same time they cannot be (P1).
            lane=self.team.process != "sequential",
        )
