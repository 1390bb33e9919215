"""What a team does next, decided without I/O."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sessions import Agent, AgentTeam, Task, TaskResult, TaskStatus
from sessions.errors import OutputInvalid
from sessions.protocol.team import TeamSpec
from sessions.protocol.team_result import TeamResult
from workers.engine.offline_schema import example
from workers.teams.plan import Plan, fixed_plan, managed_plan, manager_prompt, plan_schema, ready, skipped, task_prompt


def done(index: int, status: TaskStatus = TaskStatus.SUCCEEDED, text: str = "") -> TaskResult:
    return TaskResult(index=index, name=f"t{index}", agent="A", status=status, text=text)


def plan(*needs: tuple[int, ...]) -> Plan:
    return Plan(agents=tuple(0 for _ in needs), needs=needs, last=len(needs) - 1)


DIAMOND = plan((), (0,), (0,), (1, 2))


def test_a_task_is_ready_when_all_its_needs_have_answers() -> None:
    """It is ready once, and only then."""
    assert ready(DIAMOND, {}) == [0]
    assert ready(DIAMOND, {0: None}) == []
    assert ready(DIAMOND, {0: done(0)}) == [1, 2]
    assert ready(DIAMOND, {0: done(0), 1: None, 2: done(2)}) == []
    assert ready(DIAMOND, {0: done(0), 1: done(1), 2: done(2)}) == [3]


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED])
def test_what_builds_on_a_lost_task_is_skipped_all_the_way_down(status: TaskStatus) -> None:
    """The rest continues; each skipped task names the one that it lacks."""
    chain = plan((), (0,), (1,), ())
    assert skipped(chain, {0: done(0, status)}) == {1: 0, 2: 1}
    assert ready(chain, {0: done(0, status)}) == [3]
    assert skipped(chain, {0: done(0), 1: None}) == {}


def test_a_prompt_holds_the_task_and_the_answers_it_builds_on() -> None:
    """First what to do, then what is expected, then what others found out."""
    spec = team([Task("write", expected_output="a page", agent="A")]).tasks[0]
    text = task_prompt(spec, [done(0, text="it rains")])
    assert text == "write\n\nExpected output: a page\n\nResults of earlier tasks:\n\n## t0 (A)\nit rains"
    assert task_prompt(spec, []) == "write\n\nExpected output: a page"


def team(tasks: list[Task], process: Any = "parallel") -> TeamSpec:
    agents = [
        Agent("A", instructions="You analyse numbers"),
        Agent("Researcher", instructions="You research topics"),
        Agent("Writer", instructions="You write articles"),
    ]
    return AgentTeam(agents, tasks, process).spec


def test_each_task_of_a_sequence_builds_on_the_one_before() -> None:
    """It gets the result of the previous task in addition to those in its `context`."""
    first = Task("one", agent="A")
    spec = team([first, Task("two", agent="A"), Task("three", agent="Writer", context=[first])], "sequential")
    assert fixed_plan(spec) == Plan(agents=(0, 0, 2), needs=((), (0,), (0, 1)), last=2)


def managed() -> TeamSpec:
    research = Task("research the topic", name="research")
    return team([Task("write an article", context=[research]), research, Task("count", agent="A")], "hierarchical")


def test_the_managers_plan_says_who_and_in_which_step() -> None:
    """A step is given the answers of the step before; what tasks say themselves stands."""
    answer = {
        "task_1": {"agent": "Writer", "step": 1},
        "task_2": {"agent": "Researcher", "step": 1},
        "task_3": {"agent": "Writer", "step": 3},
    }
    # The article needs the research, so it cannot be in the same step; the counting keeps its agent.
    assert managed_plan(managed(), answer) == Plan(agents=(2, 1, 0), needs=((1,), (), (0,)), last=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task_1": {"agent": "Bob", "step": 1}}, "'Bob', who is not in the team: it has 'A', 'Researcher', 'Writer'"),
        ({"task_1": None}, "no agent and step for task 'task_1'"),
        ({"task_2": {"agent": "A"}}, "no agent and step for task 'research'"),
    ],
)
def test_a_plan_that_cannot_be_used_says_why(change: dict[str, Any], said: str) -> None:
    """An unknown agent is named together with those that exist."""
    answer = {f"task_{n}": {"agent": "A", "step": 1} for n in (1, 2, 3)} | change
    with pytest.raises(OutputInvalid, match=said):
        managed_plan(managed(), answer)


def test_the_offline_model_makes_a_plan_that_fits() -> None:
    """Deterministic: each task goes to the agent whose description is nearest to it."""
    spec = managed()
    answer = example(plan_schema(spec), manager_prompt(spec))
    Draft202012Validator(plan_schema(spec)).validate(answer)
    assert managed_plan(spec, answer).agents == (2, 1, 0)


def test_a_result_reads_as_its_last_task() -> None:
    """`str()` is its answer; without one it says what happened."""
    result = TeamResult(tasks=(done(0, text="a"), done(1, text="b")), last=1)
    assert (str(result), result.ok, result["t0"].text) == ("b", True, "a")
    lost = TeamResult(tasks=(done(0, text="a"), done(1, TaskStatus.SKIPPED)), last=1)
    assert str(lost) == "(task 't1' skipped: no reason was given)"
    assert (lost.ok, [task.name for task in lost.failed]) == (False, ["t1"])
    with pytest.raises(KeyError, match="the tasks are t0, t1"):
        result["t9"]
