"""A team: tasks, who does them, and a run that any worker goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from broker_config.settings import Settings
from sessions.api.agent import Agent
from sessions.api.session import Session
from sessions.api.team_run import Members, TeamRun, astart_run
from sessions.client.arguments.values import message_text, short_text
from sessions.client.blocking import blocking
from sessions.client.per_process import get_client
from sessions.client.portal import Portal
from sessions.errors import BadRequest, UnknownAgent
from sessions.protocol.agent import AgentConfig
from sessions.protocol.team import MemberSpec, TaskSpec, TeamSpec
from sessions.protocol.team_result import TeamResult
from sessions.store.keys import valid_tenant

Process = Literal["sequential", "parallel", "hierarchical"]
_PROCESSES = ("sequential", "parallel", "hierarchical")


class Task:
    """Something for an agent to do.

    Args:
        description: what to do.
        expected_output: what the answer should be like.
        agent: who does it: an agent of the team, or its name. None: the team's only agent, or whom the manager chooses.
        context: tasks that must end first; their answers are part of this task's prompt.
        name: what results and events call it; `task_1`, `task_2`, ... when None.

    Raises:
        BadRequest: an argument cannot be used.
    """

    def __init__(
        self,
        description: str,
        expected_output: str | None = None,
        agent: Agent | str | None = None,
        context: Sequence[Task | str] | None = None,
        name: str | None = None,
    ) -> None:
        self.description = message_text(description)
        self.expected_output = None if expected_output is None else message_text(expected_output)
        if agent is not None and not isinstance(agent, Agent | str):
            raise BadRequest(f"agent={agent!r}: give an Agent of the team, or its name")
        self.agent = agent
        self.context = _task_list("context", context or ())
        self.name = None if name is None else short_text("name", name)

    def __repr__(self) -> str:
        return f"Task({self.name or self.description[:40]!r})"


class AgentTeam:
    """Agents that do tasks together; also importable as `Agents`.

    Example:
        team = AgentTeam(agents=[researcher, writer], tasks=[research, article])
        print(team.start())     # the last task's text

    Args:
        agents: who there is; their names differ. Stand-alone agents and agents of sessions can be mixed.
        tasks: what there is to do.
        process: `sequential`: one after the other, each is given the answer of the one before. `parallel`: all at the
            same time, on different workers, except that a task waits for those in its `context`. `hierarchical`: a
            manager model says who does what in which order.
        manager_model: the model of the manager; None for the workers' default.
        manager: an agent to be the manager, instead of `manager_model`.
        user_id: whose run it is; by default the user of the agents' sessions.
        tenant: likewise; the tenant of the agents' sessions, or of the settings.
        queue: the workers that serve the run, and the tasks of stand-alone agents.
        settings: another fleet than the environment's.

    Raises:
        BadRequest: the team cannot work; the message says why. UnknownAgent is a kind of it.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        tasks: Sequence[Task],
        process: Process = "sequential",
        *,
        manager_model: str | None = None,
        manager: Agent | None = None,
        user_id: str | None = None,
        queue: str = "turns",
        tenant: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if process not in _PROCESSES:
            raise BadRequest(f"process={process!r}: use one of {', '.join(map(repr, _PROCESSES))}")
        self.agents, self.tasks = _members(agents), _tasks(tasks)
        self.process = process
        self.user_id = _user(self.agents) if user_id is None else short_text("user_id", user_id)
        self._settings = settings or _settings(self.agents)
        self._tenant = _tenant(self.agents) if tenant is None else valid_tenant(tenant)
        self._queue = Session(queue=queue, settings=self._settings).queue
        boss = _manager(process, manager_model, manager)
        self.spec = TeamSpec(
            process=process,
            members=tuple(_member(agent, self._queue) for agent in self.agents),
            tasks=tuple(self._task(index) for index in range(len(self.tasks))),
            manager=boss,
            queue=self._queue,
        )
        _refuse_cycles(self.spec)

    @property
    def portal(self) -> Portal:
        """The loop of this process."""
        return get_client(self._settings).portal

    def __repr__(self) -> str:
        return f"AgentTeam({len(self.agents)} agents, {len(self.tasks)} tasks, {self.process!r})"

    # --- run it -----------------------------------------------------------------------------------------

    async def astart(self, *, timeout: float | None = None, idempotency_key: str | None = None) -> TeamResult:
        """Run the team and wait for its end. A task that fails raises nothing: the result says so.

        Args:
            timeout: seconds to the deadline of the run and of all its tasks (SESSIONFLEET_TURN_TIMEOUT by default).
            idempotency_key: the same key with the same team gives the same run, for a day after its end.

        Raises:
            TurnFailed: the run itself was cancelled, or not done by its deadline, or the manager made no usable plan.
            BadRequest, BackendError: see `sessions.errors`.
        """
        run = await self.asubmit(timeout=timeout, idempotency_key=idempotency_key)
        return await run.aresult()

    start = blocking(astart)

    async def asubmit(
        self, *, timeout: float | None = None, idempotency_key: str | None = None, webhook: str | None = None
    ) -> TeamRun:
        """Hand the run to the fleet and return at once; it goes on whatever happens to this process.

        Args:
            webhook: the URL that is told of the run's end.
        """
        return await astart_run(self._run_of(), timeout, idempotency_key, webhook)

    submit = blocking(asubmit)

    def _run_of(self) -> Members:
        return Members(self.spec, self.user_id, self._tenant, self._settings)

    # --- what is sent -----------------------------------------------------------------------------------

    def _task(self, index: int) -> TaskSpec:
        task = self.tasks[index]
        context = {self._place(task, other) for other in task.context}
        if self.process == "sequential" and index > 0:
            context.add(index - 1)
        later = [i for i in context if i >= index]
        if self.process == "sequential" and later:
            raise BadRequest(
                f"{task!r} has {self.tasks[later[0]]!r} in its context, which does not come before it: "
                'a sequential team works in the order of its list; reorder tasks=, or use process="parallel"'
            )
        return TaskSpec(
            name=self._name(index),
            description=task.description,
            expected_output=task.expected_output,
            agent=self._agent_of(task),
            context=tuple(sorted(context)),
        )

    def _name(self, index: int) -> str:
        return self.tasks[index].name or f"task_{index + 1}"

    def _place(self, task: Task, other: Task | str) -> int:
        for index, known in enumerate(self.tasks):
            if known is other or (isinstance(other, str) and self._name(index) == other):
                return index
        raise BadRequest(
            f"{task!r} has {other!r} in its context, which is not among the team's tasks: add it to tasks="
        )

    def _agent_of(self, task: Task) -> int | None:
        if task.agent is None:
            if len(self.agents) == 1:
                return 0
            if self.process == "hierarchical":
                return None
            raise BadRequest(f'{task!r} has no agent: give it agent=, or let a manager choose (process="hierarchical")')
        for index, agent in enumerate(self.agents):
            if agent is task.agent or agent.name == task.agent:
                return index
        name = task.agent if isinstance(task.agent, str) else task.agent.name
        known = ", ".join(repr(agent.name) for agent in self.agents)
        raise UnknownAgent(f"{task!r} is for the agent {name!r}, who is not in the team ({known}): add it to agents=")


Agents = AgentTeam


def _members(agents: Sequence[Agent]) -> tuple[Agent, ...]:
    if isinstance(agents, str) or not isinstance(agents, Sequence) or not agents:
        raise BadRequest(f"agents={agents!r}: give a list of at least one Agent")
    for agent in agents:
        if not isinstance(agent, Agent):
            raise BadRequest(f"agents= has {agent!r} in it: give Agents, from `Agent(...)` or `session.Agent(...)`")
        if agent.session.is_remote:
            raise BadRequest(f"{agent!r} is behind a server, and a team runs on one fleet: use POST /v1/teams there")
    names = [agent.name for agent in agents]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"two agents of the team are named {name!r}: results and managers know them by name")
    return tuple(agents)


def _tasks(tasks: Sequence[Task]) -> tuple[Task, ...]:
    if isinstance(tasks, str) or not isinstance(tasks, Sequence) or not tasks:
        raise BadRequest(f"tasks={tasks!r}: give a list of at least one Task")
    for place, task in enumerate(tasks):
        if not isinstance(task, Task):
            raise BadRequest(f"tasks= has {task!r} in it: give Tasks, as in Task(description=..., agent=...)")
        if any(task is other for other in tasks[:place]):
            raise BadRequest(f"{task!r} is in tasks= twice: make a Task for each time that it is to be done")
    names = [task.name or f"task_{place + 1}" for place, task in enumerate(tasks)]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"two tasks of the team are named {name!r}: give them names that differ")
    return tuple(tasks)


def _task_list(argument: str, tasks: Sequence[Task | str]) -> tuple[Task | str, ...]:
    if isinstance(tasks, str) or not isinstance(tasks, Sequence):
        raise BadRequest(f"{argument}={tasks!r}: give a list of Tasks")
    for task in tasks:
        if not isinstance(task, Task | str):
            raise BadRequest(f"{argument}= has {task!r} in it: give Tasks, or their names")
    return tuple(tasks)


def _member(agent: Agent, queue: str) -> MemberSpec:
    if agent.stand_alone:
        return MemberSpec(config=agent.own_config, queue=queue)
    session = agent.session
    return MemberSpec(
        config=agent.own_config,
        by_name=agent.by_name,
        session=session.session_id,
        queue=session.queue,
        ttl=session.ttl,
    )


def _user(agents: Sequence[Agent]) -> str | None:
    users = {agent.session.user_id for agent in agents if not agent.stand_alone} - {None}
    if len(users) > 1:
        raise BadRequest(
            f"the agents' sessions belong to different users ({', '.join(sorted(map(repr, users)))}): "
            "what one of them said would reach the other's session; make a team for each user"
        )
    return next(iter(users), None)


def _tenant(agents: Sequence[Agent]) -> str | None:
    tenants = {agent.session.keys.tenant for agent in agents if not agent.stand_alone}
    if len(tenants) > 1:
        raise BadRequest(f"the agents' sessions belong to different tenants ({', '.join(sorted(map(repr, tenants)))})")
    return next(iter(tenants), None)


def _settings(agents: Sequence[Agent]) -> Settings | None:
    return next((agent.session.settings for agent in agents if not agent.stand_alone), None)


def _manager(process: str, model: str | None, manager: Agent | None) -> AgentConfig | None:
    if process != "hierarchical":
        if model is not None or manager is not None:
            raise BadRequest(f'a {process} team has no manager: use process="hierarchical", or leave the manager out')
        return None
    if manager is None:
        return Agent("Manager", model=model).config
    if model is not None:
        raise BadRequest("give manager_model= or manager=, not both: an Agent has its own model")
    if not isinstance(manager, Agent):
        raise BadRequest(f"manager={manager!r}: give an Agent, or the name of a model as manager_model=")
    return manager.config


def _refuse_cycles(team: TeamSpec) -> None:
    done: set[int] = set()
    while left := [i for i in range(len(team.tasks)) if i not in done]:
        free = [i for i in left if done.issuperset(team.tasks[i].context)]
        if not free:
            names = ", ".join(repr(team.tasks[i].name) for i in left)
            raise BadRequest(f"the tasks {names} wait for each other in a circle: take one out of another's context=")
        done.update(free)
