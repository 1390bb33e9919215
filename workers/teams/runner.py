"""Runs a team: one pass over its tasks, then the slot is free until one of them ends.

    collect results -> plan -> skip tasks that can never start -> submit tasks that can -> end, or wait

A run is a turn, and so is each of its tasks. They are accepted, leased, journalled, retried and resumed like any other
turn, so a run survives its client and its workers. The run's journal has what each pass found out, so that no task is
submitted twice and no result is fetched twice. See docs/adr/0008.
"""

from __future__ import annotations

import json
from typing import Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError, ResultTooLarge, StoreFull, StoreUnavailable
from sessions.protocol.team import TeamSpec
from sessions.protocol.team_result import TaskResult, TeamResult
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.leases import Ending
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal, persist
from workers.lease.outcomes import WaitForTurns
from workers.teams.delegations import TASKS_MARK, Delegations
from workers.teams.plan import Plan
from workers.teams.tasks import TaskTurns
from workers.teams.team_pass import TeamPass

_log = get_logger(__name__)
_POLL: Final = 2.0


class TeamRunner:
    """Runs teams. One per worker process."""

    def __init__(self, settings: Settings, turns: TaskTurns) -> None:
        self._settings = settings
        self._turns = turns

    async def advance(self, held: HeldTurn, team: TeamSpec, journal: LeasedJournal) -> Ending | WaitForTurns:
        """Make one pass over the run's tasks.

        Raises:
            OutputInvalid: the manager's plan cannot be used. ResultTooLarge: the answers together are too large.
            LeaseLost: the lease was lost.
        """
        team_pass = TeamPass(held, team, journal, self._turns)
        await journal.emit(())  # the reply says whether the run was cancelled while no worker held its lease
        try:
            if journal.lookup(TASKS_MARK) is None:
                await journal.record(TASKS_MARK, b"1")  # before the first task, so that a cancel reaches every task
            await team_pass.collect()
            plan = await team_pass.plan()
            if plan is not None:
                await team_pass.skip(plan)
                await team_pass.start_ready(plan)
                if (results := team_pass.results()) is not None:
                    return self._ending(team_pass, plan, results)
        except (StoreFull, StoreUnavailable) as error:
            _log.warning("run_paused", run=held.turn_id, error=str(error))
        return WaitForTurns(_POLL)

    async def cancel(self, held: HeldTurn, team: TeamSpec, journal: LeasedJournal) -> None:
        """Cancel the tasks that have not ended.

        Raises:
            LeaseLost: the lease was lost before all of them were cancelled.
        """
        team_pass = TeamPass(held, team, journal, self._turns)
        for slot, known in team_pass.open_slots():
            await persist(held, lambda slot=slot, known=known: self._turns.cancel(slot, known and known.turn))  # type: ignore[misc]

    def delegations(self, held: HeldTurn, request: TurnRequest, journal: LeasedJournal) -> Delegations:
        """The agents that a turn asks, for its engine. They run in turns of their own, like tasks."""
        return Delegations(self._settings, self._turns, held, request, journal)

    async def wake_parent(self, turn_id: str, tenant: str) -> None:
        """Wake a turn because one that it waits for has ended. If that fails, the turn runs again after its pause."""
        try:
            await self._turns.wake_parent(turn_id, tenant)
        except BackendError as error:
            _log.warning("run_not_nudged", run=turn_id, error=str(error))

    def _ending(self, team_pass: TeamPass, plan: Plan, results: list[TaskResult]) -> Ending:
        whole = TeamResult(tasks=tuple(results), last=plan.last, usage=team_pass.usage(results))
        raw = json.dumps({"text": whole.text, "output": whole.model_dump(mode="json")}).encode()
        if len(raw) > self._settings.result_limit_bytes:
            raise ResultTooLarge(f"the answers of all tasks have {len(raw)} bytes. {ResultTooLarge.__doc__}")
        return Ending(TurnStatus.SUCCEEDED, result=raw, usage=whole.usage.model_dump_json().encode())
