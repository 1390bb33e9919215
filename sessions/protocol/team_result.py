"""The result of a team's run: how each of its tasks ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from sessions.protocol.turn import TurnError, Usage


class TaskStatus(StrEnum):
    """How a task of a team ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class TaskResult(BaseModel):
    """How one task ended.

    Attributes:
        index: its position in the team's list of tasks.
        text: its answer; '' if it has none.
        output: the answer as a JSON value; for an agent with an output type, its object's JSON.
        error: why it failed, was cancelled, or was skipped.
        turn: id of the turn that did it; None if it was skipped.
        attempts: how often that turn was begun; more than 1 after a crash or a retry.
        worker: the worker that did it.
    """

    model_config = ConfigDict(frozen=True)

    index: int
    name: str
    agent: str
    status: TaskStatus
    text: str = ""
    output: Any = None
    error: TurnError | None = None
    turn: str | None = None
    attempts: int = 0
    worker: str | None = None
    usage: Usage = Usage()

    @property
    def ok(self) -> bool:
        """Whether it has an answer."""
        return self.status is TaskStatus.SUCCEEDED

    def __str__(self) -> str:
        if self.ok:
            return self.text
        return f"(task {self.name!r} {self.status}: {self.error.message if self.error else 'no reason was given'})"


class TeamResult(BaseModel):
    """How a team's run ended: its `str()` is the last task's text.

    Attributes:
        tasks: one result for each task, in the order of the team's list.
        last: index of the task that is the run's answer: the last in the list, or the last in the manager's plan.
        usage: of all tasks, and of the manager.
    """

    model_config = ConfigDict(frozen=True)

    tasks: tuple[TaskResult, ...]
    last: int
    usage: Usage = Usage()

    @property
    def ok(self) -> bool:
        """Whether every task succeeded."""
        return all(task.ok for task in self.tasks)

    @property
    def failed(self) -> tuple[TaskResult, ...]:
        """The tasks without an answer: failed, cancelled or skipped."""
        return tuple(task for task in self.tasks if not task.ok)

    @property
    def text(self) -> str:
        """The last task's text, or its error."""
        return str(self.tasks[self.last])

    def __str__(self) -> str:
        return self.text

    def __getitem__(self, name: str) -> TaskResult:
        """The result of the task with this name."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(f"no task named {name!r}; the tasks are {', '.join(task.name for task in self.tasks)}")
