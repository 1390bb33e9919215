"""A session's schedules at a gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import uuid_utils

from sessions.client.arguments.schedules import NewSchedule, ScheduleChange
from sessions.client.ports import SessionRef
from sessions.client.schedule_info import ScheduleInfo
from sessions.errors import BadRequest
from sessions.protocol.turn import TurnStatus
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parse_time, parsing, turn_body, without_none
from sessions.store.keys import split_turn_id

_TIMES: Final = ("created_at", "next_run_at", "last_run_at", "last_skipped_at")
_NOT_SENT: Final = ("stream", "policy", "not_before", "user_id")


class RemoteSchedules:
    """`ScheduleCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def create(self, session: SessionRef, new: NewSchedule) -> ScheduleInfo:
        """Create a schedule; see `ScheduleMethods.aschedule`. A retry creates the same one."""
        message = {
            name: value
            for name, value in turn_body(new.submission, session.session_id).items()
            if name not in _NOT_SENT
        }
        rules = {"cron": new.cron.expression, "timezone": new.cron.timezone, "missed": new.missed.value}
        body = {**message, **rules, "overlap": new.overlap.value, "schedule_id": new.schedule_id}
        return _info(await self._client(session).api("POST", "/schedules", json=body))

    async def get(self, session: SessionRef, schedule_id: str) -> ScheduleInfo:
        """One schedule."""
        return _info(await self._client(session).api("GET", _path(schedule_id)))

    async def all(self, session: SessionRef) -> list[ScheduleInfo]:
        """All schedules, in the order of their creation."""
        answer = await self._client(session).api("GET", "/schedules")
        with parsing("schedules"):
            return [_info(resource) for resource in answer["schedules"]]

    async def update(self, session: SessionRef, schedule_id: str, change: ScheduleChange) -> ScheduleInfo:
        """Change a schedule; see `Schedule.aupdate`."""
        body = without_none(
            cron=change.cron,
            timezone=change.timezone,
            missed=None if change.missed is None else change.missed.value,
            overlap=None if change.overlap is None else change.overlap.value,
            paused=change.paused,
            message=change.message,
            agent=None if change.agent is None else turn_body(change.agent, session.session_id)["agent"],
        )
        if not body:
            return await self.get(session, schedule_id)
        return _info(await self._client(session).api("PATCH", _path(schedule_id), json=body))

    async def trigger(self, session: SessionRef, schedule_id: str, idempotency_key: str | None) -> str:
        """Send what a tick sends, now; returns the turn's part of its id. Retries have the same idempotency key."""
        key = idempotency_key or uuid_utils.uuid4().hex
        resource = await self._client(session).api("POST", f"{_path(schedule_id)}/trigger", key=key)
        with parsing("turn"):
            return split_turn_id(resource["id"])[1]

    async def delete(self, session: SessionRef, schedule_id: str) -> bool:
        """Delete a schedule; returns whether it existed."""
        return await self._client(session).api_found("DELETE", _path(schedule_id))

    async def next_runs(self, session: SessionRef, schedule_id: str, count: int) -> list[datetime]:
        """The next ticks."""
        answer = await self._client(session).api("GET", f"{_path(schedule_id)}/runs", params={"count": count})
        with parsing("runs"):
            return [datetime.fromisoformat(text) for text in answer["runs"]]


def _path(schedule_id: str) -> str:
    return f"/schedules/{segment(schedule_id)}"


def _info(resource: Mapping[str, Any]) -> ScheduleInfo:
    with parsing("schedule"):
        status = resource["last_status"]
        times = {name: parse_time(resource[name]) for name in _TIMES}
        if times["created_at"] is None:
            raise BadRequest("a schedule has a time of its creation")
        return ScheduleInfo(
            **{
                **{name: resource[name] for name in ScheduleInfo.__dataclass_fields__},
                **times,
                "last_status": None if status is None else TurnStatus(status),
            }
        )
