"""The methods of `Session` about schedules, and `Schedule`: a message that is sent again and again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol, TypedDict, Unpack

from sessions.api.agent import Agent
from sessions.api.turn import Turn
from sessions.client.arguments.options import takes
from sessions.client.arguments.schedules import NewSchedule, ScheduleChange, run_count, schedule_name
from sessions.client.arguments.values import message_text, short_string
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.client.portal import Portal
from sessions.client.ports import AgentHome
from sessions.client.schedule_info import ScheduleInfo
from sessions.errors import BadRequest
from sessions.protocol.turn import TurnStatus


class ScheduleOptions(TypedDict, total=False):
    """The options of the messages that a schedule sends: those of `TurnOptions` that concern more than one message."""

    timeout: float | None
    waiting_blocks: bool | None
    approval_timeout: float | None
    webhook: str | None
    model: Any
    model_settings: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    max_model_calls: int | None
    max_tool_calls: int | None
    budget: Mapping[str, Any] | None


class ScheduleHome(BackedSession, AgentHome, Protocol):
    """The session of schedules, as they use it; `sessions.Session` implements it."""

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        ...

    def default_agent(self) -> Agent:
        """The agent that `chat` sends messages to."""
        ...


class ScheduleMethods:
    """The methods of `Session` about schedules, each with an async form."""

    @takes(ScheduleOptions)
    async def aschedule(
        self: ScheduleHome,
        cron: str,
        message: str,
        *,
        agent: Agent | str | None = None,
        timezone: str = "UTC",
        schedule_id: str | None = None,
        missed: str = "skip",
        overlap: str = "skip",
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Send a message again and again, at the times of a cron expression.

        Each tick becomes one turn of this session, whatever happens to workers and to this process. An active schedule
        keeps a session with a ttl from expiring. Creating the same schedule under the same id again has no effect.

        Args:
            cron: five fields, such as "0 9 * * 1-5": minute, hour, day of the month, month, day of the week.
            agent: an agent, or the name of one; by default the session's.
            timezone: in which the expression is meant, such as "Europe/Berlin".
            schedule_id: 1 to 64 visible characters without spaces or `~`; generated if None.
            missed: what to do about ticks at whose time no worker ran: `skip`, or `run_once` for all of them.
            overlap: what to do about a tick while the turn of the previous one is open: `skip`, or `queue` another one.
            options: `timeout`, `waiting_blocks`, `approval_timeout`, `webhook`, `model`, `model_settings` and
                `metadata` of each message; see `sessions.TurnOptions`.

        Raises:
            BadRequest: an argument cannot be used, or the session has 100 schedules. ScheduleExists: the id is taken by
                another schedule. SessionOwnerError, BackendError: nothing was created.
        """
        text = message_text(message)
        submission = _agent(self, agent).submission(self, text, policy="enqueue", **options)
        new = NewSchedule.of(submission, schedule_id, cron, timezone, missed, overlap)
        return Schedule(self, await self.portal.acall(self.backend.schedules.create(self, new)))

    schedule = blocking(aschedule)

    async def aschedules(self: ScheduleHome) -> list[Schedule]:
        """The session's schedules, in the order of their creation."""
        return [Schedule(self, info) for info in await self.portal.acall(self.backend.schedules.all(self))]

    schedules = blocking(aschedules)

    async def aget_schedule(self: ScheduleHome, schedule_id: str) -> Schedule:
        """A schedule by its id.

        Raises:
            ScheduleNotFound: the session has none of this id.
        """
        name = schedule_name(schedule_id)
        return Schedule(self, await self.portal.acall(self.backend.schedules.get(self, name)))

    get_schedule = blocking(aget_schedule)


class Schedule:
    """A message that a session is sent at the times of a cron expression.

    Attributes:
        info: the schedule as it was when it was last read; `refresh()` reads it again.
    """

    def __init__(self, session: ScheduleHome, info: ScheduleInfo) -> None:
        self._session = session
        self.info = info

    def __repr__(self) -> str:
        info = self.info
        state = "paused" if info.paused else f"next {info.next_run_at}"
        return f"Schedule({info.schedule_id!r}, {info.cron!r}, {info.timezone!r}, {state})"

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        return self._session.portal

    @property
    def schedule_id(self) -> str:
        """Its id within the session."""
        return self.info.schedule_id

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self.info.paused

    @property
    def next_run_at(self) -> datetime | None:
        """Its next tick."""
        return self.info.next_run_at

    @property
    def last_turn_id(self) -> str | None:
        """The id of its last turn."""
        return self.info.last_turn_id

    @property
    def last_status(self) -> TurnStatus | None:
        """The status of its last turn."""
        return self.info.last_status

    async def arefresh(self) -> Schedule:
        """Read it again; returns itself.

        Raises:
            ScheduleNotFound: it was deleted.
        """
        calls = self._session.backend.schedules
        self.info = await self.portal.acall(calls.get(self._session, self.schedule_id))
        return self

    refresh = blocking(arefresh)

    async def aupdate(
        self,
        *,
        cron: str | None = None,
        timezone: str | None = None,
        message: str | None = None,
        agent: Agent | str | None = None,
        missed: str | None = None,
        overlap: str | None = None,
    ) -> None:
        """Change it; what is not given stays. Turns that were accepted already are not changed.

        Raises:
            BadRequest: an argument cannot be used. ScheduleNotFound: it was deleted.
        """
        other = None if agent is None else _agent(self._session, agent).submission(self._session, message or "-")
        change = ScheduleChange.of(cron, timezone, missed, overlap, None, message, other)
        await self._change(change)

    update = blocking(aupdate)

    async def apause(self) -> None:
        """Let no tick become a turn until `resume`. While all its schedules are paused, a session may expire."""
        await self._change(ScheduleChange(paused=True))

    pause = blocking(apause)

    async def aresume(self) -> None:
        """Continue with the next tick after now; those during the pause are not made up for."""
        await self._change(ScheduleChange(paused=False))

    resume = blocking(aresume)

    async def _change(self, change: ScheduleChange) -> None:
        calls = self._session.backend.schedules
        self.info = await self.portal.acall(calls.update(self._session, self.schedule_id, change))

    async def atrigger(self, *, idempotency_key: str | None = None) -> Turn:
        """Send the message now, also if it is paused; the next tick stays as it is.

        Raises:
            ScheduleNotFound: it was deleted. SessionBusy: the mailbox is full.
        """
        key = None if idempotency_key is None else short_string("idempotency_key", idempotency_key)
        session = self._session
        part = await self.portal.acall(session.backend.schedules.trigger(session, self.schedule_id, key))
        return Turn(session.client, session.keys, part)

    trigger = blocking(atrigger)

    async def adelete(self) -> bool:
        """Delete it; returns whether it existed. Turns that its ticks became stay."""
        return await self.portal.acall(self._session.backend.schedules.delete(self._session, self.schedule_id))

    delete = blocking(adelete)

    async def anext_runs(self, count: int = 5) -> list[datetime]:
        """The times of its next ticks, in UTC; of a paused schedule those that it would have.

        Raises:
            BadRequest: the count is not from 1 to 1,000. ScheduleNotFound: it was deleted.
        """
        calls = self._session.backend.schedules
        return await self.portal.acall(calls.next_runs(self._session, self.schedule_id, run_count(count)))

    next_runs = blocking(anext_runs)


def _agent(session: ScheduleHome, agent: Agent | str | None) -> Agent:
    if agent is None:
        return session.default_agent()
    if isinstance(agent, str):
        return Agent(agent, session=session)
    if not isinstance(agent, Agent):
        raise BadRequest(f"agent {agent!r}: use an Agent, or the name of one")
    return agent
