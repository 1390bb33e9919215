"""Limits of tenants and users, as a client applies them: to the turns that it submits and the sessions that it creates.

What workers submit by themselves (a team's tasks, ticks of schedules, operations, deliveries) is not limited. Without
limits, a turn costs no more than before: this process knows from its settings and from a copy of the fleet's list.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.connection import FleetConnection
from sessions.errors import BackendError, RateLimited, SessionfleetError
from sessions.store.acceptance import Accepted
from sessions.store.gate import Gate
from sessions.store.keys import SessionKeys
from sessions.store.submission import Submission
from sessions.store.submission_limits import NO_LIMITS, Counted, Limits, OwnLimitStore, SubmissionLimitStore, own_limits
from sessions.store.transitions.submission_limits import Full, Minute

_FRESH: Final = 2.0
_TOO_OLD: Final = 60.0
_FULL_WAIT: Final = 1.0
_SESSIONS_WAIT: Final = 60.0
_WORDS: Final = {"flight": "turns in flight", "open": "open turns"}
_log = get_logger(__name__)


class SubmissionLimits:
    """Limits what tenants and users submit. Its coroutines run on the portal's event loop only."""

    def __init__(self, connection: FleetConnection) -> None:
        self._connection = connection
        self._defaults = defaults(connection.settings)
        self._own: OwnLimits | None = None

    async def accept(self, keys: SessionKeys, submission: Submission, *, watcher: str = "") -> Accepted:
        """Accept a turn if the limits of its tenant and its user allow it.

        Raises:
            RateLimited: one of them is reached; the message says which, and when to try again. Nothing was written.
            As `TurnStore.accept`.
        """
        turns = self._connection.stores.turns
        limits = await self._of(keys.tenant, submission.sender or submission.user_id)
        if not limits:
            return await turns.accept(keys, submission, watcher=watcher)
        counted, new = _counted(keys, submission, limits), _NewSession(self._store, keys, submission.user_id, limits)
        gate = await self._gate(submission, limits, counted, new)
        try:
            accepted = await turns.accept(keys, submission, watcher=watcher, gate=gate)
        except BackendError:
            raise  # it may be accepted: what became of it is looked for before a limit refuses another
        except SessionfleetError:
            await self._withdraw(counted)
            await new.forget()
            raise
        await new.forget()  # it exists
        if accepted.part != submission.part:
            await self._withdraw(counted, counts=not accepted.duplicate)
        return accepted

    async def refuse_new_session(self, keys: SessionKeys, user: str | None) -> None:
        """Refuse a session that does not exist, if its tenant or its user has as many as it may have.

        Raises:
            RateLimited: so it is. BackendError: the store did not answer.
        """
        await self._connection.open()
        new = _NewSession(self._store, keys, user, await self._of(keys.tenant, user))
        if not new.limited or await self._store.is_there(keys):
            return
        if (error := await new.refusal()) is not None:
            await new.forget()
            raise error

    async def forget_user(self, tenant: str, user: str) -> None:
        """Forget which turns of a user are open, because everything of the user was deleted.

        Raises:
            BackendError: the store did not answer.
        """
        await self._store.forget_user(tenant, user)

    async def _of(self, tenant: str, user: str | None) -> Applied:
        if self._own is None:
            self._own = OwnLimits(OwnLimitStore(self._connection.stores.redis))
        known, (of_tenant, of_user) = await self._own.known(), self._defaults
        if known:
            own_tenant, own_user = own_limits(known, tenant, user)
            of_tenant, of_user = own_tenant.over(of_tenant), own_user.over(of_user)
        return Applied(user, of_tenant, of_user if user else NO_LIMITS)

    async def _gate(self, submission: Submission, limits: Applied, counted: Counted, new: _NewSession) -> Gate:
        asks = new.refusal if new.limited and not submission.hidden else None
        if not (limits.tenant.of_turns or limits.of_user.of_turns):
            return Gate(new_session=asks)
        match await self._store.admit(counted):
            case Minute(whose=whose, wait_ms=wait_ms):
                most = limits.whose(whose).minute
                return Gate("minute", _refused(limits, counted.tenant, whose, "turns per minute", most, wait_ms / 1000))
            case Full(what=what, whose=whose):
                most = getattr(limits.whose(whose), what)
                return Gate(what, _refused(limits, counted.tenant, whose, _WORDS[what], most, _FULL_WAIT))
            case None:
                return Gate(new_session=asks)

    async def _withdraw(self, counted: Counted, *, counts: bool = False) -> None:
        try:
            await self._store.withdraw(counted, counts=counts)
        except BackendError as error:  # it has no record, so it is forgotten when the limit is reached
            _log.warning("turn_not_withdrawn", turn=counted.name, error=str(error))

    @property
    def _store(self) -> SubmissionLimitStore:
        return self._connection.stores.limits


class _NewSession:
    """A session that a call may create. Once it was asked whether it may, others count it, until `forget`."""

    def __init__(self, store: SubmissionLimitStore, keys: SessionKeys, user: str | None, limits: Applied) -> None:
        self._store = store
        self._keys = keys
        self._user = user
        self._limits = limits
        self._most = limits.tenant.sessions or 0
        self._users_most = (limits.of_user.sessions or 0) if user else 0
        self._announced = False

    @property
    def limited(self) -> bool:
        """Whether there is a limit of sessions."""
        return bool(self._most or self._users_most)

    async def refusal(self) -> RateLimited | None:
        """Why it may not be created; None if it may."""
        self._announced = True
        tenants, users = await self._store.sessions_besides(self._keys, self._user)
        if self._users_most and users >= self._users_most:
            return self._refused("user", self._users_most)
        if self._most and tenants >= self._most:
            return self._refused("tenant", self._most)
        return None

    async def forget(self) -> None:
        """It was created or refused. Without this it counts for ten seconds."""
        if not self._announced:
            return
        try:
            await self._store.forget_session(self._keys, self._user)
        except BackendError as error:
            _log.warning("session_not_forgotten", session=self._keys.ref, error=str(error))

    def _refused(self, whose: str, most: int) -> RateLimited:
        return _refused(self._limits, self._keys.tenant, whose, "sessions", most, _SESSIONS_WAIT)


class OwnLimits:
    """This process's copy of the limits that tenants and users have of their own.

    It is read again in the background when it is two seconds old, so that nobody waits for it; and at once after a
    minute in which nobody asked.
    """

    def __init__(self, store: OwnLimitStore) -> None:
        self._store = store
        self._found: dict[tuple[str, str], Limits] | None = None
        self._version = -1
        self._read = 0.0
        self._reading: asyncio.Task[None] | None = None

    async def known(self) -> dict[tuple[str, str], Limits]:
        """By tenant and user, as `OwnLimitStore.all` gives them.

        Raises:
            BackendError: what is known is older than a minute, or nothing, and the store did not answer.
        """
        age = time.monotonic() - self._read
        needed = self._found is None or age > _TOO_OLD
        if (needed or age > _FRESH) and (self._reading is None or self._reading.done()):
            self._reading = asyncio.get_running_loop().create_task(self._refresh())
            self._reading.add_done_callback(_log_failure)
        if needed and self._reading is not None:
            # One for all messages that come meanwhile: each would need a connection.
            await asyncio.shield(self._reading)
        return self._found or {}

    async def _refresh(self) -> None:
        began = time.monotonic()
        version = await self._store.version()
        if version != self._version:
            self._found = await self._store.all() if version else {}
            self._version = version
        self._read = began


def _log_failure(reading: asyncio.Task[None]) -> None:
    if not reading.cancelled() and (error := reading.exception()) is not None:
        _log.warning("limits_not_read", error=str(error))


@dataclass(frozen=True, slots=True)
class Applied:
    """The limits that apply to one message: its tenant's, and its user's if one is named."""

    user: str | None
    tenant: Limits
    of_user: Limits

    def whose(self, whose: str) -> Limits:
        """Those of the tenant or of the user."""
        return self.tenant if whose == "tenant" else self.of_user

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return bool(self.tenant) or bool(self.of_user)


def defaults(settings: Settings) -> tuple[Limits, Limits]:
    """The limits of every tenant, and of every user."""
    s = settings
    return (
        Limits(
            minute=s.tenant_turns_per_minute,
            flight=s.tenant_turns_in_flight,
            open=s.tenant_open_turns,
            sessions=s.tenant_sessions,
            weight=1,
        ),
        Limits(
            minute=s.user_turns_per_minute,
            flight=s.user_turns_in_flight,
            open=s.user_open_turns,
            sessions=s.user_sessions,
        ),
    )


def _counted(keys: SessionKeys, submission: Submission, limits: Applied) -> Counted:
    return Counted(
        name=f"{keys.ref}~{submission.part}",
        tenant=keys.tenant,
        user=limits.user,
        tenant_limits=limits.tenant,
        user_limits=limits.of_user,
        later=_is_later(submission),
    )


def _is_later(submission: Submission) -> bool:
    match submission.not_before:
        case None:
            return False
        case datetime() as start:
            return start > datetime.now(UTC)
        case seconds:
            return seconds > 0


def _refused(limits: Applied, tenant: str, whose: str, what: str, most: int | None, wait: float) -> RateLimited:
    name = f"tenant {tenant!r}" if whose == "tenant" else f"user {limits.user!r}"
    return RateLimited(
        f"{name} has reached its limit of {what} ({most}); {_advice(what, wait)}",
        retry_after=wait,
        limit=what,
        whose=whose,
    )


def _advice(what: str, wait: float) -> str:
    match what:
        case "sessions":
            return "delete sessions that are no longer needed, then try again"
        case "turns per minute":
            return f"try again in {math.ceil(wait)} s"
        case _:
            return "try again when one of them has ended"
