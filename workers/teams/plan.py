"""What a team does next, decided without I/O.

Which agent does which task, which tasks can start, which never will, and the prompt of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from sessions.errors import OutputInvalid
from sessions.protocol.team import TaskSpec, TeamSpec
from sessions.protocol.team_result import TaskResult

MANAGER_PROMPT: Final = (
    "You lead a team. Give each task to the agent that fits it best, and say in which step it is done: "
    "the tasks of one step are done at the same time, each step is given the results of the step before it."
)
_WORD: Final = re.compile(r"\w{4,}")


class Plan(BaseModel):
    """Which agent does each task, and in which order.

    Attributes:
        agents: for each task, the position of its agent in the team.
        needs: for each task, the tasks that must succeed before it; its prompt has their answers.
        last: the task whose answer is the run's answer.
    """

    model_config = ConfigDict(frozen=True)

    agents: tuple[int, ...]
    needs: tuple[tuple[int, ...], ...]
    last: int


def fixed_plan(team: TeamSpec) -> Plan:
    """The plan of a team without a manager, from its tasks alone."""
    return Plan(
        agents=tuple(task.agent or 0 for task in team.tasks),
        needs=tuple(task.context for task in team.tasks),
        last=len(team.tasks) - 1,
    )


def ready(plan: Plan, started: Mapping[int, TaskResult | None]) -> list[int]:
    """The tasks that can start now.

    Args:
        started: the result of each task that was started or skipped; None while it runs.
    """
    return [
        task
        for task, needs in enumerate(plan.needs)
        if task not in started and all((result := started.get(need)) is not None and result.ok for need in needs)
    ]


def skipped(plan: Plan, started: Mapping[int, TaskResult | None]) -> dict[int, int]:
    """The tasks that can never start, each with the first of its needs that has no answer."""
    failed = {task for task, result in started.items() if result is not None and not result.ok}
    found: dict[int, int] = {}
    while True:
        more = {
            task: next(need for need in needs if need in failed)
            for task, needs in enumerate(plan.needs)
            if task not in started and task not in found and not failed.isdisjoint(needs)
        }
        if not more:
            return found
        found |= more
        failed |= more.keys()


def task_prompt(task: TaskSpec, answers: Sequence[TaskResult]) -> str:
    """The prompt of a task: its description, and the answers of the tasks that it needs."""
    parts = [task.description]
    if task.expected_output:
        parts.append(f"Expected output: {task.expected_output}")
    if answers:
        parts.append("Results of earlier tasks:")
        parts += [f"## {answer.name} ({answer.agent})\n{answer.text}" for answer in answers]
    return "\n\n".join(parts)


# --- the manager ----------------------------------------------------------------------------------------


def manager_prompt(team: TeamSpec) -> str:
    """The prompt of the manager."""
    agents = [f"- {member.config.name}: {member.config.instructions or 'no description'}" for member in team.members]
    tasks: list[str] = []
    for index, task in enumerate(team.tasks):
        after = ", ".join(_key(need) for need in task.context)
        about = f"- {_key(index)} ({task.name}): {task.description}"
        tasks.append(f"{about}\n  (needs the results of {after})" if after else about)
    return "\n".join([MANAGER_PROMPT, "", "The agents of the team:", *agents, "", "The tasks:", *tasks])


def plan_schema(team: TeamSpec) -> dict[str, Any]:
    """The JSON schema of the manager's answer: for each task its agent's name and its step, from 1 on."""
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
    """The plan in the manager's answer. A task that names its own agent or context keeps them.

    Raises:
        OutputInvalid: the answer leaves a task out, or names an agent that is not in the team.
    """
    names = [member.config.name for member in team.members]
    agents: list[int] = []
    steps: list[int] = []
    for index, task in enumerate(team.tasks):
        choice = answer.get(_key(index)) if isinstance(answer, Mapping) else None
        if not isinstance(choice, Mapping) or not isinstance(choice.get("step"), int):
            raise OutputInvalid(f"the manager's plan has no agent and step for task {task.name!r}: {choice!r}")
        if task.agent is None and choice.get("agent") not in names:
            raise OutputInvalid(
                f"the manager gave task {task.name!r} to {choice.get('agent')!r}, who is not in the team: "
                f"it has {', '.join(map(repr, names))}"
            )
        agents.append(names.index(choice["agent"]) if task.agent is None else task.agent)
        steps.append(choice["step"])
    return _plan_by_steps(team, agents, steps)


def _plan_by_steps(team: TeamSpec, agents: Sequence[int], steps: list[int]) -> Plan:
    # Each round moves tasks after their context, whatever the manager answered. A chain of contexts is at most as long
    # as the list, so after that many rounds all are in order.
    for _ in range(len(steps)):
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
    """The names of agents that may do a task.

    Those whose description shares most words with the task come first, because the offline model picks the first one.
    """
    if task.agent is not None:
        return [team.members[task.agent].config.name]
    wanted = _words(f"{task.name} {task.description}")
    fit = [len(wanted & _words(f"{m.config.name} {m.config.instructions}")) for m in team.members]
    order = sorted(range(len(fit)), key=lambda member: (-fit[member], member))
    return [team.members[member].config.name for member in order]


def _words(text: str) -> set[str]:
    """The first letters of each word, so that `research` matches `researcher`."""
    return {word[:6] for word in _WORD.findall(text.lower())}


def _key(index: int) -> str:
    return f"task_{index + 1}"
