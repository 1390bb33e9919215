"""What a team does next, decided without I/O: who does what, what may begin, what never will, and what each is told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from sessions.errors import OutputInvalid
from sessions.protocol.team import TaskSpec, TeamSpec
from sessions.protocol.team_result import TaskResult

MANAGER: Final = (
    "You lead a team. Give each task to the agent that fits it best, and say in which step it is done: "
    "the tasks of one step are done at the same time, each step is given the results of the step before it."
)
_WORD: Final = re.compile(r"\w{4,}")


class Plan(BaseModel):
    """Who does what, after what.

    Attributes:
        agents: for each task the position of its agent.
        needs: for each task the tasks that must succeed first; it is given their answers.
        last: the task whose answer is the run's.
    """

    model_config = ConfigDict(frozen=True)

    agents: tuple[int, ...]
    needs: tuple[tuple[int, ...], ...]
    last: int


def fixed_plan(team: TeamSpec) -> Plan:
    """The plan of a team without a manager: its tasks say all there is to know."""
    return Plan(
        agents=tuple(task.agent or 0 for task in team.tasks),
        needs=tuple(task.context for task in team.tasks),
        last=len(team.tasks) - 1,
    )


def ready(plan: Plan, begun: Mapping[int, TaskResult | None]) -> list[int]:
    """The tasks that may begin now. `begun` has the result of each that was begun or skipped, None while it runs."""
    return [
        task
        for task, needs in enumerate(plan.needs)
        if task not in begun and all((result := begun.get(need)) is not None and result.ok for need in needs)
    ]


def skipped(plan: Plan, begun: Mapping[int, TaskResult | None]) -> dict[int, int]:
    """The tasks that can never begin, each with the one among its needs that has no answer."""
    lost = {task for task, result in begun.items() if result is not None and not result.ok}
    found: dict[int, int] = {}
    while True:
        more = {
            task: next(need for need in needs if need in lost)
            for task, needs in enumerate(plan.needs)
            if task not in begun and task not in found and not lost.isdisjoint(needs)
        }
        if not more:
            return found
        found |= more
        lost |= more.keys()


def task_prompt(task: TaskSpec, answers: Sequence[TaskResult]) -> str:
    """What the agent of a task is told: the task, and the answers that it builds on."""
    parts = [task.description]
    if task.expected_output:
        parts.append(f"Expected output: {task.expected_output}")
    if answers:
        parts.append("Results of earlier tasks:")
        parts += [f"## {answer.name} ({answer.agent})\n{answer.text}" for answer in answers]
    return "\n\n".join(parts)


# --- the manager ----------------------------------------------------------------------------------------


def manager_prompt(team: TeamSpec) -> str:
    """What the manager is asked."""
    agents = [f"- {member.config.name}: {member.config.instructions or 'no description'}" for member in team.members]
    tasks: list[str] = []
    for index, task in enumerate(team.tasks):
        after = ", ".join(_key(need) for need in task.context)
        about = f"- {_key(index)} ({task.name}): {task.description}"
        tasks.append(f"{about}\n  (needs the results of {after})" if after else about)
    return "\n".join([MANAGER, "", "The agents of the team:", *agents, "", "The tasks:", *tasks])


def plan_schema(team: TeamSpec) -> dict[str, Any]:
    """What the manager must answer: for each task its agent's name and its step, from 1 on."""
    fields = {
        _key(index): {
            "type": "object",
            "properties": {
                "agent": {"type": "string", "enum": _candidates(team, task)},
                "step": {"type": "integer", "minimum": 1, "maximum": len(team.tasks)},
            },
            "required": ["agent", "step"],
        }
        for index, task in enumerate(team.tasks)
    }
    return {"type": "object", "properties": fields, "required": list(fields)}


def managed_plan(team: TeamSpec, answer: Any) -> Plan:
    """The plan that the manager's answer means. What tasks say themselves, agent and context, stands.

    Raises:
        OutputInvalid: it leaves a task out, or names an agent that is not in the team.
    """
    names = [member.config.name for member in team.members]
    agents: list[int] = []
    steps: list[int] = []
    for index, task in enumerate(team.tasks):
        said = answer.get(_key(index)) if isinstance(answer, Mapping) else None
        if not isinstance(said, Mapping) or not isinstance(said.get("step"), int):
            raise OutputInvalid(f"the manager's plan says nothing usable of task {task.name!r}: {said!r}")
        if task.agent is None and said.get("agent") not in names:
            raise OutputInvalid(
                f"the manager gave task {task.name!r} to {said.get('agent')!r}, who is not in the team: "
                f"it has {', '.join(map(repr, names))}"
            )
        agents.append(names.index(said["agent"]) if task.agent is None else task.agent)
        steps.append(said["step"])
    return _stepped(team, agents, steps)


def _stepped(team: TeamSpec, agents: Sequence[int], steps: list[int]) -> Plan:
    for (
        _
    ) in steps:  # a task comes behind its context, whatever the manager says; a chain is as long as the list at most
        steps = [
            max([step, *(steps[c] + 1 for c in task.context)]) for task, step in zip(team.tasks, steps, strict=True)
        ]
    levels = sorted(set(steps))
    before = {step: [t for t, s in enumerate(steps) if s == lower] for lower, step in pairwise(levels)}
    needs = [sorted({*task.context, *before.get(step, ())}) for task, step in zip(team.tasks, steps, strict=True)]
    return Plan(
        agents=tuple(agents),
        needs=tuple(tuple(need) for need in needs),
        last=max(range(len(steps)), key=lambda task: (steps[task], task)),
    )


def _candidates(team: TeamSpec, task: TaskSpec) -> list[str]:
    """Who may do a task, those first whose description shares most words with it: a model with no opinion takes one."""
    if task.agent is not None:
        return [team.members[task.agent].config.name]
    wanted = _words(f"{task.name} {task.description}")
    fit = [len(wanted & _words(f"{m.config.name} {m.config.instructions}")) for m in team.members]
    order = sorted(range(len(fit)), key=lambda member: (-fit[member], member))
    return [team.members[member].config.name for member in order]


def _words(text: str) -> set[str]:
    """Words by their beginnings, so that `research` meets `researcher`."""
    return {word[:6] for word in _WORD.findall(text.lower())}


def _key(index: int) -> str:
    return f"task_{index + 1}"
