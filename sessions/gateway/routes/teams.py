"""Teams: several agents that work on tasks that depend on each other. A run is a turn, and so is each of its tasks."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Response, status
from pydantic import ConfigDict, Field

from sessions.api.agent import Agent
from sessions.api.team import AgentTeam, Task
from sessions.api.team_run import TeamRun
from sessions.errors import SessionOwnerError, TurnNotFound
from sessions.gateway.agents import AgentSpec, agent_of, canonical
from sessions.gateway.caller import Caller, Configurer, Reader, Writer
from sessions.gateway.parameters import WEBHOOK, IdempotencyKey
from sessions.gateway.prefer import Wait
from sessions.gateway.problems import responses
from sessions.gateway.resources import TurnResource, team_path
from sessions.gateway.streams import STREAM, Cursor, event_stream
from sessions.gateway.strict_json import Body, StrictRoute
from sessions.store.keys import split_turn_id

router = APIRouter(prefix="/v1/teams", tags=["teams"], route_class=StrictRoute)
_OF_RUNS: Final = "team-"
RunId = Annotated[
    str,
    Path(
        description="The `id` of a run.",
        examples=["team-5f0c7a0e3b1d4e0f9a86d7b2c4e1f3a5~0192f5c4e8d17e3c8e3c5b7f0a9d4e21"],
        json_schema_extra={"pattern": r"^team-[0-9a-f]{32}~[0-9a-f]{32}$"},
    ),
]


class NewTask(Body):
    """A task for an agent."""

    description: str = Field(min_length=1)
    expected_output: str | None = Field(None, min_length=1, description="What the answer should be like.")
    agent: str | None = Field(
        None, description="Who does it; by default the only agent, or the one that the manager chooses."
    )
    context: list[str] = Field([], description="Names of tasks that must end first; their answers are in the prompt.")
    name: str | None = Field(None, min_length=1, max_length=256, description="By default `task_1`, `task_2`, ...")


class NewTeam(Body):
    """A team and its tasks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "agents": [{"name": "Researcher", "instructions": "You find facts."}, "assistant"],
                    "tasks": [
                        {"name": "facts", "description": "Find facts on tea.", "agent": "Researcher"},
                        {"description": "Write a paragraph.", "agent": "assistant", "context": ["facts"]},
                    ],
                    "process": "sequential",
                }
            ]
        },
    )

    agents: list[str | AgentSpec] = Field(
        min_length=1, max_length=100, description="Names, or definitions of your own."
    )
    tasks: list[NewTask] = Field(min_length=1, max_length=1000)
    process: Literal["sequential", "parallel", "hierarchical"] = "sequential"
    manager_model: str | None = Field(None, description="In a hierarchical team: the model that assigns the tasks.")
    timeout: float | None = Field(None, gt=0, le=7 * 86400, description="Seconds to the deadline of the whole run.")
    webhook: str | None = Field(None, **WEBHOOK)

    def team(self, agents: list[Agent], caller: Caller) -> AgentTeam:
        """The team.

        Raises:
            BadRequest: it is not valid.
        """
        tasks = [Task(**{**task.model_dump(), "agent": task.agent and canonical(task.agent)}) for task in self.tasks]
        return AgentTeam(
            agents,
            tasks,
            self.process,
            manager_model=self.manager_model,
            user_id=caller.user,
            tenant=caller.principal.tenant,
            settings=caller.gateway.settings,
        )


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Run a team",
    responses={
        200: {"model": TurnResource, "description": "It ended within `Prefer: wait`."},
        **responses(404, 409),
    },
)
async def run_team(
    body: NewTeam, caller: Configurer, wait: Wait, idempotency_key: IdempotencyKey = None
) -> TurnResource:
    """Durably accepted. Its agents are stand-alone: each task has its own session."""
    # Only to know the agents' fleet and tenant; nothing is stored under it.
    nowhere = caller.session(None)
    agents = [(await agent_of(caller, nowhere, wanted)).alone() for wanted in body.agents]
    run = await body.team(agents, caller).asubmit(
        timeout=body.timeout, idempotency_key=idempotency_key, webhook=body.webhook
    )
    return await wait.show(run, team_path(run.id), _session(run.id), accepted=True, approvals=False)


@router.get("/{run_id:segment}", summary="Show a run, or wait for its end", responses=responses(404))
async def get_team_run(run_id: RunId, caller: Reader, wait: Wait) -> TurnResource:
    """Its result says how each task ended."""
    run = await _run(caller, run_id)
    return await wait.show(run, team_path(run.id), _session(run.id), approvals=False)


@router.get(
    "/{run_id:segment}/events",
    summary="Follow a run",
    response_class=Response,
    responses={**STREAM, **responses(404, 409)},
)
async def follow_team_run(run_id: RunId, caller: Reader, after: Cursor) -> Response:
    """`task_started` and `task_ended`, among the run's own events."""
    run = await _run(caller, run_id)
    return await event_stream(run.aevents(after), run.id)


@router.post(
    "/{run_id:segment}/cancel",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Cancel a run",
    responses={200: {"model": TurnResource, "description": "It ended within `Prefer: wait`."}, **responses(404)},
)
async def cancel_team_run(run_id: RunId, caller: Writer, wait: Wait) -> TurnResource:
    """Its tasks are cancelled too."""
    run = await _run(caller, run_id)
    await run.acancel()
    return await wait.show(run, team_path(run.id), _session(run.id), accepted=True, approvals=False)


async def _run(caller: Caller, run_id: str) -> TeamRun:
    """A run of the caller's.

    Raises:
        InvalidTurnId: it is not the id of a turn. TurnNotFound: it is not a run. SessionOwnerError: it is another
            user's.
    """
    session_id = _session(run_id)
    if not session_id.startswith(_OF_RUNS) or "~" in session_id:  # of a lane: not a run either
        raise TurnNotFound(f"{run_id!r} is not a team's run; runs are in sessions `team-...`")
    if caller.user is not None:
        context = await caller.session_of(None, session_id).aget_context()
        # A backend's run has no user: its id is not meant for users, and a session without a user is open to everybody.
        if context["created_at"] is not None and context["user_id"] != caller.user:
            raise SessionOwnerError(f"run {run_id!r} belongs to another user than {caller.user!r}")
    tenant, settings = caller.principal.tenant, caller.gateway.settings
    return await TeamRun.aattach(run_id, user_id=caller.user, tenant=tenant, settings=settings)


def _session(run_id: str) -> str:
    return split_turn_id(run_id)[0]
