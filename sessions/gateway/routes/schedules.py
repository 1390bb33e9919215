"""Schedules: messages that a session is sent at the times of a cron expression."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from broker_config.names import RULE, pattern
from sessions.api.schedules import Schedule
from sessions.client.arguments.schedules import LONGEST_SCHEDULE_ID, MOST_RUNS
from sessions.errors import ScheduleNotFound
from sessions.gateway.agents import AgentSpec, Base, agent_of
from sessions.gateway.caller import DEFAULT_QUEUE, Caller, Reader, Writer
from sessions.gateway.parameters import LONGEST_TTL, QUEUE, TEXT, WEBHOOK, IdempotencyKey, SessionId
from sessions.gateway.prefer import Wait
from sessions.gateway.principal import Right
from sessions.gateway.problems import responses
from sessions.gateway.resources import TurnResource, turn_path
from sessions.gateway.segments import segment
from sessions.gateway.strict_json import Body, StrictRoute
from sessions.gateway.turn_limits import ModelCalls, SpentAtMost, ToolCalls, given_budget
from sessions.protocol.cron import Missed, Overlap
from sessions.protocol.turn import TurnStatus

router = APIRouter(
    prefix="/v1/sessions/{session_id:segment}/schedules",
    tags=["schedules"],
    route_class=StrictRoute,
    responses=responses(404),
)

_ID: Final[dict[str, Any]] = {"pattern": pattern(LONGEST_SCHEDULE_ID)}
ScheduleId = Annotated[
    str,
    Path(
        description=f"Percent-encoded. 1 to {LONGEST_SCHEDULE_ID} characters: {RULE}.",
        examples=["daily-report"],
        json_schema_extra=_ID,
    ),
]
_CRON: Final = "Five fields: minute, hour, day of the month, month, day of the week."
_ZONE: Final = "The time zone in which the expression is meant."
_MISSED: Final = "What to do about ticks at whose time no worker ran: nothing, or one turn for all of them."
_OVERLAP: Final = "What to do about a tick while the turn of the previous one is open."


class NewSchedule(Body):
    """A message to send again and again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin", "message": "What is new?"},
                {"schedule_id": "hourly", "cron": "0 * * * *", "message": "Check the orders", "missed": "run_once"},
            ]
        }
    )

    cron: str = Field(max_length=256, description=_CRON, examples=["0 9 * * 1-5"])
    message: str = Field(min_length=1, json_schema_extra=TEXT)
    timezone: str = Field("UTC", description=_ZONE, examples=["Europe/Berlin"])
    schedule_id: str | None = Field(None, description="Generated if absent.", json_schema_extra=_ID)
    agent: str | AgentSpec = Field("assistant", description="An agent's name, or a definition of your own.")
    missed: Missed = Field(Missed.SKIP, strict=False, description=_MISSED)
    overlap: Overlap = Field(Overlap.SKIP, strict=False, description=_OVERLAP)
    timeout: float | None = Field(None, gt=0, le=7 * 86400, description="Seconds to each turn's deadline.")
    waiting_blocks: bool | None = Field(None, description="Whether later turns wait while one waits for an approval.")
    approval_timeout: float | None = Field(None, gt=0, le=90 * 86400, description="Seconds to wait for an approval.")
    webhook: str | None = Field(None, **WEBHOOK)
    model: str | list[str] | None = Field(None, description="For these messages, instead of the agent's.")
    model_settings: dict[str, Any] | None = Field(None, description="For these messages, instead of the agent's.")
    metadata: dict[str, Any] | None = Field(None, description="Shown in the record of each turn.")
    max_model_calls: ModelCalls = None
    max_tool_calls: ToolCalls = None
    budget: SpentAtMost = None
    session_ttl: float | None = Field(
        None, gt=0, le=LONGEST_TTL, description="Seconds after its last use until the session expires."
    )
    queue: str = Field(
        DEFAULT_QUEUE, description="The queue of the session, if this creates it.", json_schema_extra=QUEUE
    )
    memory: bool | None = Field(
        None, description="Whether the session's agents use memory, unless they say themselves."
    )
    knowledge: bool | Base | list[Base] | None = Field(None, description="The same for documents; names of bases.")

    def options(self) -> dict[str, Any]:
        """The arguments of `schedule`, as far as they are given."""
        names = (
            *("timeout", "waiting_blocks", "approval_timeout", "webhook", "model", "model_settings", "metadata"),
            *("max_model_calls", "max_tool_calls"),
        )
        given = {name: getattr(self, name) for name in names} | {"budget": given_budget(self.budget)}
        return {name: value for name, value in given.items() if value is not None}


class ScheduleChange(Body):
    """What to change; what is absent stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"paused": True}, {"cron": "0 10 * * 1-5", "timezone": "Europe/Berlin"}]}
    )

    cron: str | None = Field(None, max_length=256, description=_CRON)
    timezone: str | None = Field(None, description=_ZONE)
    message: str | None = Field(None, min_length=1, json_schema_extra=TEXT)
    agent: str | AgentSpec | None = Field(None, description="An agent's name, or a definition of your own.")
    missed: Missed | None = Field(None, strict=False, description=_MISSED)
    overlap: Overlap | None = Field(None, strict=False, description=_OVERLAP)
    paused: bool | None = Field(None, description="true: no tick becomes a turn until it is false again.")


class ScheduleResource(BaseModel):
    """A schedule, and what became of its ticks."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "schedule_id": "daily-report",
                    "cron": "0 9 * * 1-5",
                    "timezone": "Europe/Berlin",
                    "message": "What is new?",
                    "agent": "Assistant",
                    "missed": "skip",
                    "overlap": "skip",
                    "paused": False,
                    "created_at": "2026-11-26T12:00:00.120Z",
                    "next_run_at": "2026-11-27T08:00:00Z",
                    "runs": 0,
                    "missed_runs": 0,
                    "skipped_runs": 0,
                    "last_run_at": None,
                    "last_turn_id": None,
                    "last_status": None,
                    "last_skipped_at": None,
                    "last_skip_reason": None,
                }
            ]
        },
    )

    schedule_id: str
    cron: str
    timezone: str
    message: str
    agent: str = Field(description="The name of the agent that the message is sent to.")
    missed: Missed
    overlap: Overlap
    paused: bool
    created_at: datetime
    next_run_at: datetime | None = Field(None, description="null: it is paused, or no date matches any more.")
    runs: int = Field(description="How many turns it has become, triggered ones included.")
    missed_runs: int = Field(description="Ticks without a turn, because no worker ran.")
    skipped_runs: int = Field(description="Ticks without a turn: the previous one's was open, or the mailbox full.")
    last_run_at: datetime | None = None
    last_turn_id: str | None = None
    last_status: TurnStatus | None = Field(None, description="Of the last turn; null once its record has expired.")
    last_skipped_at: datetime | None = None
    last_skip_reason: str | None = Field(None, description="overlap or full.")

    @classmethod
    def of(cls, schedule: Schedule) -> ScheduleResource:
        """A schedule as it is shown."""
        return cls.model_validate(schedule.info)


class Schedules(BaseModel):
    """The session's schedules, in the order of their creation."""

    schedules: list[ScheduleResource]


class Runs(BaseModel):
    """The next times of a schedule."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"runs": ["2026-11-27T08:00:00Z"]}]})

    runs: list[datetime] = Field(description="In UTC; of a paused schedule those that it would have.")


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Create a schedule",
    responses=responses(409),
)
async def create_schedule(
    session_id: SessionId, body: NewSchedule, caller: Writer, response: Response
) -> ScheduleResource:
    """Each tick becomes one turn of the session. Creating the same schedule under the same id again has no effect."""
    caller.may_use(body.queue)
    if body.model is not None or body.model_settings is not None:
        caller.principal.need(Right.CONFIGURE)
    knowledge = {"bases": body.knowledge} if isinstance(body.knowledge, list) else body.knowledge
    session = caller.session(
        session_id, ttl=body.session_ttl, queue=body.queue, memory=body.memory, knowledge=knowledge
    )
    made = await session.aschedule(
        body.cron,
        body.message,
        agent=await agent_of(caller, session, body.agent),
        timezone=body.timezone,
        schedule_id=body.schedule_id,
        missed=body.missed,
        overlap=body.overlap,
        **body.options(),
    )
    response.headers["Location"] = f"/v1/sessions/{segment(session_id)}/schedules/{segment(made.schedule_id)}"
    return ScheduleResource.of(made)


@router.get("", summary="List the schedules")
async def list_schedules(session_id: SessionId, caller: Reader) -> Schedules:
    """With their next times, and what became of their last ticks."""
    found = await caller.session(session_id).aschedules()
    return Schedules(schedules=[ScheduleResource.of(schedule) for schedule in found])


@router.get("/{schedule_id:segment}", summary="Show a schedule")
async def get_schedule(session_id: SessionId, schedule_id: ScheduleId, caller: Reader) -> ScheduleResource:
    """Its rules, its next time, and what became of its last ticks."""
    return ScheduleResource.of(await _schedule(caller, session_id, schedule_id))


@router.get("/{schedule_id:segment}/runs", summary="List the next times")
async def list_runs(
    session_id: SessionId,
    schedule_id: ScheduleId,
    caller: Reader,
    count: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 5,
) -> Runs:
    """As the expression says, daylight saving included."""
    return Runs(runs=await (await _schedule(caller, session_id, schedule_id)).anext_runs(count))


@router.patch("/{schedule_id:segment}", summary="Change, pause or resume a schedule")
async def update_schedule(
    session_id: SessionId, schedule_id: ScheduleId, body: ScheduleChange, caller: Writer
) -> ScheduleResource:
    """Turns that were accepted already are not changed."""
    session = caller.session(session_id)
    schedule = await session.aget_schedule(schedule_id)
    agent = None if body.agent is None else await agent_of(caller, session, body.agent)
    if body.model_fields_set - {"paused"}:
        await schedule.aupdate(
            cron=body.cron,
            timezone=body.timezone,
            message=body.message,
            agent=agent,
            missed=body.missed,
            overlap=body.overlap,
        )
    if body.paused is not None:
        await (schedule.apause() if body.paused else schedule.aresume())
    return ScheduleResource.of(schedule)


@router.delete("/{schedule_id:segment}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a schedule")
async def delete_schedule(session_id: SessionId, schedule_id: ScheduleId, caller: Writer) -> None:
    """Turns that its ticks became stay."""
    if not await (await _schedule(caller, session_id, schedule_id)).adelete():
        raise ScheduleNotFound(f"there is no schedule {schedule_id!r} any more")


@router.post(
    "/{schedule_id:segment}/trigger",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Send the message now",
    responses={200: {"model": TurnResource, "description": "It ended within `Prefer: wait`."}, **responses(409)},
)
async def trigger_schedule(
    session_id: SessionId,
    schedule_id: ScheduleId,
    caller: Writer,
    wait: Wait,
    idempotency_key: IdempotencyKey = None,
) -> TurnResource:
    """One turn, also if the schedule is paused; its next tick stays as it is."""
    schedule = await _schedule(caller, session_id, schedule_id)
    turn = await schedule.atrigger(idempotency_key=idempotency_key)
    return await wait.show(turn, turn_path(session_id, turn.id), session_id, accepted=True)


async def _schedule(caller: Caller, session_id: str, schedule_id: str) -> Schedule:
    """A schedule of one of the caller's sessions.

    Raises:
        ScheduleNotFound: there is none.
    """
    return await caller.session(session_id).aget_schedule(schedule_id)
