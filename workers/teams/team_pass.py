"""One pass over a team's run: what its journal has, and the steps that take the run further."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from sessions.errors import OutputInvalid, SessionBusy, SessionOwnerError
from sessions.protocol.event import EventType
from sessions.protocol.team import MemberSpec, TeamSpec
from sessions.protocol.team_result import TaskResult, TaskStatus
from sessions.protocol.turn import TurnError, Usage, total
from workers.engine.ports import EventDraft
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal
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
from workers.teams.tasks import TaskSlot, TaskTurns, task_result

_MANAGER: Final = "manager"
_SHOWN_CHARS: Final = 200
_LEAST_SECONDS: Final = 1.0


class _TaskRecord(BaseModel):
    """What the run's journal has about a task: its turn, and once it has ended, its result."""

    turn: str | None = None
    result: TaskResult | None = None


@dataclass(slots=True)
class TeamPass:
    """One pass over a run's tasks."""

    held: HeldTurn
    team: TeamSpec
    journal: LeasedJournal
    turns: TaskTurns

    # --- what the journal has ---------------------------------------------------------------------------

    def known(self, key: str) -> _TaskRecord | None:
        """What the journal has about a task, or about the manager's turn."""
        raw = self.journal.lookup(f"task:{key}")
        return None if raw is None else _TaskRecord.model_validate_json(raw)

    def started(self) -> dict[int, TaskResult | None]:
        """The tasks that were started or skipped, with the results of those that ended."""
        records = ((index, self.known(str(index))) for index in range(len(self.team.tasks)))
        return {index: known.result for index, known in records if known is not None}

    def results(self) -> list[TaskResult] | None:
        """The results of all tasks; None until all have ended."""
        found = [result for _, result in sorted(self.started().items()) if result is not None]
        return found if len(found) == len(self.team.tasks) else None

    def usage(self, results: Sequence[TaskResult]) -> Usage:
        """What the tasks with these results and the manager's turn used together."""
        manager = self.known(_MANAGER)
        plan_making = [] if manager is None or manager.result is None else [manager.result.usage]
        return total([*(result.usage for result in results), *plan_making])

    def known_plan(self) -> Plan | None:
        """The plan; None until the manager has made it.

        Raises:
            OutputInvalid: the manager's answer cannot be used as a plan.
        """
        if self.team.process != "hierarchical":
            return fixed_plan(self.team)
        manager = self.known(_MANAGER)
        if manager is None or manager.result is None:
            return None
        if not manager.result.ok:
            why = manager.result.error.message if manager.result.error else manager.result.status
            names = ", ".join(repr(member.config.name) for member in self.team.members)
            raise OutputInvalid(
                f"the manager {manager.result.agent!r} made no usable plan ({why}); a plan must give each task to one "
                f"of {names}: use a stronger manager_model=, or set agent= on the tasks"
            )
        return managed_plan(self.team, manager.result.output)

    def open_slots(self) -> Iterator[tuple[TaskSlot, _TaskRecord | None]]:
        """The tasks that have not ended, started or not."""
        plan = self.known_plan()
        keys = [_MANAGER] if self.team.manager is not None else []
        if plan is not None:
            keys += [str(index) for index in range(len(self.team.tasks))]
        for key in keys:
            known = self.known(key)
            if known is None or known.result is None:
                member = self._manager() if plan is None or key == _MANAGER else self._member(plan, key)
                yield self._slot(key, member), known

    # --- the steps of a pass ----------------------------------------------------------------------------

    async def collect(self) -> None:
        """Journal the tasks that have ended since the last pass."""
        keys = [_MANAGER, *(str(index) for index in range(len(self.team.tasks)))]
        records = [(key, known) for key in keys if (known := self.known(key)) is not None]
        running = [(key, known.turn) for key, known in records if known.turn is not None and known.result is None]
        ended = await asyncio.gather(*(self.turns.ended_record(turn, self.held.keys.tenant) for _, turn in running))
        for (key, turn), record in zip(running, ended, strict=True):
            if record is not None:
                await self._ended(key, turn, task_result(*self._named(key), turn, record))

    async def plan(self) -> Plan | None:
        """The plan; None while the manager makes it. Asks the manager if that has not happened yet.

        Raises:
            OutputInvalid: the manager's answer cannot be used as a plan.
        """
        if self.team.manager is not None and self.known(_MANAGER) is None:
            await self._submit(_MANAGER, self._manager(), manager_prompt(self.team))
        return self.known_plan()

    async def skip(self, plan: Plan) -> None:
        """Journal the tasks that can never start."""
        for task, need in skipped(plan, self.started()).items():
            why = f"task {self.team.tasks[need].name!r}, which it needs, has no answer"
            error = TurnError(type="TaskSkipped", message=why)
            index, name, agent = self._named(str(task))
            result = TaskResult(index=index, name=name, agent=agent, status=TaskStatus.SKIPPED, error=error)
            await self._ended(str(task), None, result)

    async def start_ready(self, plan: Plan) -> None:
        """Submit the tasks that can start: those whose needs all have answers."""
        started = self.started()
        for task in ready(plan, started):
            answers = [result for need in plan.needs[task] if (result := started[need]) is not None]
            await self._submit(str(task), self._member(plan, str(task)), task_prompt(self.team.tasks[task], answers))

    async def _submit(self, key: str, member: MemberSpec, message: str) -> None:
        try:
            seconds = max(_LEAST_SECONDS, self.held.seconds_left)
            turn = await self.turns.submit(self._slot(key, member), message, seconds)
        except SessionBusy:
            return  # the next pass tries again, when other turns of that session have ended
        except SessionOwnerError as error:
            index, name, agent = self._named(key)
            why = TurnError(type="TurnFailed", message=str(error))
            failed = TaskResult(index=index, name=name, agent=agent, status=TaskStatus.FAILED, error=why)
            await self._ended(key, None, failed)
        else:
            await self._record(key, _TaskRecord(turn=turn), EventType.TASK_STARTED, agent=member.config.name)

    async def _ended(self, key: str, turn: str | None, result: TaskResult) -> None:
        shown = result.text if result.ok or result.error is None else result.error.message
        about = {"agent": result.agent, "status": result.status, "text": shown[:_SHOWN_CHARS]}
        await self._record(key, _TaskRecord(turn=turn, result=result), EventType.TASK_ENDED, **about)

    async def _record(self, key: str, known: _TaskRecord, event: EventType, **about: Any) -> None:
        index, name, _ = self._named(key)
        shown = {"index": None if key == _MANAGER else index, "name": name, "turn": known.turn, **about}
        await self.journal.record(f"task:{key}", known.model_dump_json().encode(), [EventDraft(event, shown)])

    # --- agents and slots -------------------------------------------------------------------------------

    def _named(self, key: str) -> tuple[int, str, str]:
        """Index, name and agent of a task. The manager's turn has the index -1."""
        if key == _MANAGER:
            return -1, _MANAGER, self._manager().config.name
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

    def _slot(self, key: str, member: MemberSpec) -> TaskSlot:
        return TaskSlot(
            run=self.held.turn_id,
            key=key,
            tenant=self.held.keys.tenant,
            user_id=self.held.turn.user_id,
            member=member,
            # A session runs one turn at a time. Tasks that run one after another may be turns of their agent's own
            # session; those that run in parallel get sessions of their own.
            separate=self.team.process != "sequential",
        )
