"""`AgentTeam` and `Task`: tasks, and the agents that do them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from broker_config.settings import Settings
from sessions.api.agent import Agent
from sessions.api.session import Session
from sessions.api.team_run import RunRequest, TeamRun, TeamSettings
from sessions.client.arguments.values import message_text, short_string
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
    """A task for an agent.

    Args:
        description: what to do.
        expected_output: a description of the answer.
        agent: an agent of the team, or its name. None: the team's only agent, or the one that the manager chooses.
        context: tasks that must end first; their answers are part of this task's prompt.
        name: its name in results and events; `task_1`, `task_2`, ... if None.

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
            raise BadRequest(f"agent={agent!r}: use an Agent of the team, or its name")
        self.agent = agent
        self.context = _task_list("context", context or ())
        self.name = None if name is None else short_string("name", name)

    def __repr__(self) -> str:
        return f"Task({self.name or self.description[:40]!r})"


class AgentTeam:
    """Agents that do tasks together; also importable as `Agents`.

    Example:
        team = AgentTeam(agents=[researcher, writer], tasks=[research, article])
        print(team.start())     # the last task's text

    Args:
        agents: with different names. Stand-alone agents and agents of sessions can be mixed.
        tasks: in the order in which a sequential team does them.
        process: `sequential`: one after the other; each task gets the answer of the one before. `parallel`: all at the
            same time, on different workers, except that a task waits for those in its `context`. `hierarchical`: a
            manager model assigns the tasks to agents and decides their order.
        manager_model: the model of the manager; None for the workers' default.
        manager: an agent that is the manager, instead of `manager_model`.
        user_id: the run's owner; by default the user of the agents' sessions.
        tenant: by default that of the agents' sessions, or SESSIONFLEET_TENANT.
        queue: which workers serve the run, and the tasks of stand-alone agents.
        settings: of another fleet than the environment's.

    Raises:
        BadRequest: an argument cannot be used. UnknownAgent: a task is for an agent that is not in the team.
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
        self.user_id = _user(self.agents) if user_id is None else short_string("user_id", user_id)
        self._settings = settings or _settings(self.agents)
        self._tenant = _tenant(self.agents) if tenant is None else valid_tenant(tenant)
        self._queue = Session(queue=queue, settings=self._settings).queue
        manager_config = _manager(process, manager_model, manager)
        self.spec = TeamSpec(
            process=process,
            members=tuple(_member(agent, self._queue) for agent in self.agents),
            tasks=tuple(self._task(index) for index in range(len(self.tasks))),
            manager=manager_config,
            queue=self._queue,
        )
        _refuse_cycles(self.spec)

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        return get_client(self._settings).portal

    def __repr__(self) -> str:
        return f"AgentTeam({len(self.agents)} agents, {len(self.tasks)} tasks, {self.process!r})"

    # --- run it -----------------------------------------------------------------------------------------

    async def astart(self, *, timeout: float | None = None, idempotency_key: str | None = None) -> TeamResult:
        """Run the team and wait for its end. A failed task does not raise; it is part of the result.

        Args:
            timeout: seconds to the deadline of the run and of all its tasks (SESSIONFLEET_TURN_TIMEOUT by default).
            idempotency_key: the same key with the same team returns the same run, until a day after its end.

        Raises:
            TurnFailed: the run itself was cancelled, missed its deadline, or the manager made no usable plan.
            BadRequest, BackendError: see `sessions.errors`.
        """
        run = await self.asubmit(timeout=timeout, idempotency_key=idempotency_key)
        return await run.aresult()

    start = blocking(astart)

    async def asubmit(
        self, *, timeout: float | None = None, idempotency_key: str | None = None, webhook: str | None = None
    ) -> TeamRun:
        """Return once the run is accepted; it continues, whatever happens to this process.

        Args:
            webhook: a URL to notify when the run has ended.
        """
        team = TeamSettings(self.user_id, self._tenant, self._settings)
        request = RunRequest(self.spec, team, timeout=timeout, idempotency_key=idempotency_key, webhook=webhook)
        return await self.portal.acall(request.submit())

    submit = blocking(asubmit)

    # --- what is sent -----------------------------------------------------------------------------------

    def _task(self, index: int) -> TaskSpec:
        task = self.tasks[index]
        context = {self._place(task, other) for other in task.context}
        if self.process == "sequential" and index > 0:
            context.add(index - 1)
        later = [i for i in context if i >= index]
        if self.process == "sequential" and later:
            raise BadRequest(
                f"{task!r} has {self.tasks[later[0]]!r} in its context, which comes later in the list: a sequential "
                'team works in the order of its list; reorder tasks=, or use process="parallel"'
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
            f"{task!r} has {other!r} in its context, which is not one of the team's tasks: add it to tasks="
        )

    def _agent_of(self, task: Task) -> int | None:
        if task.agent is None:
            if len(self.agents) == 1:
                return 0
            if self.process == "hierarchical":
                return None
            raise BadRequest(f'{task!r} has no agent: set agent=, or let a manager choose (process="hierarchical")')
        for index, agent in enumerate(self.agents):
            if agent is task.agent or agent.name == task.agent:
                return index
        name = task.agent if isinstance(task.agent, str) else task.agent.name
        known = ", ".join(repr(agent.name) for agent in self.agents)
        raise UnknownAgent(f"{task!r} is for the agent {name!r}, which is not in the team ({known}): add it to agents=")


Agents = AgentTeam


def _members(agents: Sequence[Agent]) -> tuple[Agent, ...]:
    if isinstance(agents, str) or not isinstance(agents, Sequence) or not agents:
        raise BadRequest(f"agents={agents!r}: pass a list of at least one Agent")
    for agent in agents:
        if not isinstance(agent, Agent):
            raise BadRequest(f"agents= contains {agent!r}: use Agents, from `Agent(...)` or `session.Agent(...)`")
        if agent.session.is_remote:
            raise BadRequest(
                f"{agent!r} is in a remote session, and a team runs on one fleet: use POST /v1/teams there"
            )
    names = [agent.name for agent in agents]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"two agents of the team are named {name!r}: results and managers tell them apart by name")
    return tuple(agents)


def _tasks(tasks: Sequence[Task]) -> tuple[Task, ...]:
    if isinstance(tasks, str) or not isinstance(tasks, Sequence) or not tasks:
        raise BadRequest(f"tasks={tasks!r}: pass a list of at least one Task")
    for place, task in enumerate(tasks):
        if not isinstance(task, Task):
            raise BadRequest(f"tasks= contains {task!r}: use Tasks, such as Task(description=..., agent=...)")
        if any(task is other for other in tasks[:place]):
            raise BadRequest(f"{task!r} is in tasks= twice: create a Task for each time that it is to be done")
    names = [task.name or f"task_{place + 1}" for place, task in enumerate(tasks)]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"two tasks of the team are named {name!r}: give them different names")
    return tuple(tasks)


def _task_list(argument: str, tasks: Sequence[Task | str]) -> tuple[Task | str, ...]:
    if isinstance(tasks, str) or not isinstance(tasks, Sequence):
        raise BadRequest(f"{argument}={tasks!r}: pass a list of Tasks")
    for task in tasks:
        if not isinstance(task, Task | str):
            raise BadRequest(f"{argument}= contains {task!r}: use Tasks, or their names")
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
            "one of them would see what the other said; create a team for each user"
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
            raise BadRequest(f'a {process} team has no manager: use process="hierarchical", or remove the manager')
        return None
    if manager is None:
        return Agent("Manager", model=model).config
    if model is not None:
        raise BadRequest("pass manager_model= or manager=, not both: an Agent has its own model")
    if not isinstance(manager, Agent):
        raise BadRequest(f"manager={manager!r}: use an Agent, or pass the name of a model as manager_model=")
    return manager.config


def _refuse_cycles(team: TeamSpec) -> None:
    done: set[int] = set()
    while left := [i for i in range(len(team.tasks)) if i not in done]:
        free = [i for i in left if done.issuperset(team.tasks[i].context)]
        if not free:
            names = ", ".join(repr(team.tasks[i].name) for i in left)
            raise BadRequest(
                f"the tasks {names} wait for each other in a cycle: remove one from the context= of another"
            )
        done.update(free)
