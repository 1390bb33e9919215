"""Limits of tenants and users: their own in the store, and the script that counts turns against them.

A tenant's turns are in the slots of their sessions, so they are counted in a slot of the tenant's own before they are
accepted (ADR 0040). What has ended is not reported there: before a limit refuses a turn, the records of those that it
counts are read, and the ones that have ended are forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sessions.errors import CorruptRecord
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import LIMITS, LIMITS_VERSION, SessionKeys, escaped, partition_key, quota_key, session_index
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.transitions import submission_limits as transitions
from sessions.store.transitions.submission_limits import Admitted, Full, LookFor, Minute
from sessions.store.versioned_hash import VersionedHash

EACH_USER: Final = "\0each"
"""Stands for every user of a tenant. No user has this name."""
_EACH: Final = "*"  # in the store, where no name has this character
_ROUNDS: Final = 5
"""How often turns are looked for before a limit refuses one; each time up to 100."""


class Limits(BaseModel):
    """The limits of one tenant or user; 0 for no limit. None: what applies to all others applies.

    Attributes:
        minute: turns that may be accepted in any 60 seconds.
        flight: turns that may be queued or running at once.
        open: turns that may be accepted and not have ended, also those that wait for an answer or for their time.
        sessions: sessions that there may be.
        weight: how many turns a tenant gets for one turn of a tenant with the weight 1, while both wait. No limit.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    minute: int | None = Field(None, ge=0)
    flight: int | None = Field(None, ge=0)
    open: int | None = Field(None, ge=0)
    sessions: int | None = Field(None, ge=0)
    weight: float | None = Field(None, ge=0.01, le=1000)

    def over(self, others: Limits) -> Limits:
        """These limits, with those of others where these say nothing."""
        return others.model_copy(update=self.model_dump(exclude_none=True))

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return any((self.minute, self.flight, self.open, self.sessions))

    @property
    def of_turns(self) -> bool:
        """Whether turns are limited."""
        return any((self.minute, self.flight, self.open))


NO_LIMITS: Final = Limits()


class OwnLimitStore:
    """The limits that single tenants and users have of their own.

    Every method raises `BackendError` if the store did not answer.
    """

    def __init__(self, client: Any) -> None:
        self._own = VersionedHash(client, LIMITS, LIMITS_VERSION)

    async def version(self) -> int:
        """Changes with every change of a limit."""
        return await self._own.version()

    async def all(self) -> dict[tuple[str, str], Limits]:
        """By tenant and user; the user is empty for the tenant itself, and `EACH_USER` for every user of it.

        Raises:
            CorruptRecord: they cannot be read.
        """
        return {_names(field): _read(value) for field, value in (await self._own.all()).items()}

    async def set(self, tenant: str, user: str, limits: Limits) -> Limits:
        """Change the limits that are not None, and return all that this tenant or user has of its own."""
        name = _field(tenant, user)
        raw = await self._own.get(name)
        changed = limits if raw is None else limits.over(_read(raw))
        await self._own.set(name, changed.model_dump_json(exclude_none=True))
        return changed

    async def remove(self, tenant: str, user: str) -> bool:
        """Remove the limits of its own; False if there are none."""
        return await self._own.remove(_field(tenant, user))


@dataclass(frozen=True, slots=True)
class Counted:
    """A turn, and the limits that it is counted against.

    Attributes:
        name: `<session>~<id>`, as the sets have it.
        user: who sends it; None if nobody is named.
        later: it is not to begin now, so it is not in flight.
    """

    name: str
    tenant: str
    user: str | None
    tenant_limits: Limits
    user_limits: Limits
    later: bool


class SubmissionLimitStore:
    """Counts turns against limits. Every method raises `BackendError` if the store did not answer."""

    def __init__(self, scripts: ScriptRunner, client: Any, partitions: int) -> None:
        self._scripts = scripts
        self._client = client
        self._partitions = partitions

    async def admit(self, turn: Counted) -> Minute | Full | None:
        """Count a turn; None if no limit refuses it. Before one does, turns that have ended are forgotten."""
        found = _Found()
        for rounds_left in reversed(range(_ROUNDS)):
            match await self._ask(turn, found, look=rounds_left > 0):
                case Admitted():
                    return None
                case LookFor(turns=names):
                    found = await self._look_for(names)
                case refused:
                    return refused
        raise AssertionError("unreachable: the last round does not look")

    async def withdraw(self, turn: Counted, *, counts: bool) -> None:
        """Take an admission back, of a turn that was not accepted.

        Args:
            counts: it counts among the turns of the minute all the same.
        """
        user = _escaped(turn.user)
        call = transitions.withdraw_turn((quota_key(turn.tenant),), turn=turn.name, user=user, counts=counts)
        await self._scripts.run(call)

    async def forget_user(self, tenant: str, user: str) -> None:
        """Forget which turns of a user are open: they were deleted. Those of the last minute stay for that minute."""
        base = quota_key(tenant)
        with translated():
            await self._client.unlink(*(f"{base}:{what}~{_escaped(user)}" for what in ("flight", "open", "sessions")))

    async def _ask(self, turn: Counted, found: _Found, *, look: bool) -> Admitted | Minute | Full | LookFor:
        of_tenant, of_user = turn.tenant_limits, turn.user_limits
        call = transitions.admit_turn(
            (quota_key(turn.tenant),),
            turn=turn.name,
            user=_escaped(turn.user),
            later=turn.later,
            tenant_minute=of_tenant.minute or 0,
            tenant_flight=of_tenant.flight or 0,
            tenant_open=of_tenant.open or 0,
            user_minute=of_user.minute or 0,
            user_flight=of_user.flight or 0,
            user_open=of_user.open or 0,
            look=look,
            ended=found.ended,
            missing=found.missing,
            waiting=found.waiting,
            running=found.running,
        )
        return await self._scripts.run(call)

    async def _look_for(self, names: Sequence[str]) -> _Found:
        """What the records of these turns say."""
        statuses = await asyncio.gather(*(self._status(name) for name in names))
        found = _Found()
        for name, status in zip(names, statuses, strict=True):
            found.add(name, status)
        return found

    async def _status(self, name: str) -> TurnStatus | None:
        ref, _, part = name.rpartition("~")
        keys = SessionKeys.from_ref(ref, self._partitions)
        raw = await self._scripts.read("HGET", keys.turn(part), "status")
        return None if raw is None else TurnStatus(raw.decode())

    # --- sessions -------------------------------------------------------------------------------------------

    async def sessions_besides(self, keys: SessionKeys, user: str | None) -> tuple[int, int]:
        """How many sessions the tenant and the user have, not counting this one, which is about to be created.

        Of sessions that are being created at the same moment, those that were announced earlier count, perhaps twice.
        """
        call = transitions.announce_session((quota_key(keys.tenant),), session=keys.ref, user=_escaped(user))
        announced = await self._scripts.run(call)
        others = (SessionKeys.from_ref(ref, self._partitions) for ref in announced.earlier)
        # Before the count: one that is created between the two is counted twice, rather than not at all.
        missing = [not exists for exists in await asyncio.gather(*map(self.is_there, others))]
        of_user = self._count(keys.tenant, user) if user else _none()
        tenants, users = await asyncio.gather(self._count(keys.tenant, None), of_user)
        return tenants + sum(missing[announced.by_user :]), users + sum(missing[: announced.by_user])

    async def forget_session(self, keys: SessionKeys, user: str | None) -> None:
        """Take the announcement of a session back, because it was created or refused."""
        of_tenant = f"{quota_key(keys.tenant)}:sessions"
        announced = [of_tenant] if user is None else [of_tenant, f"{of_tenant}~{_escaped(user)}"]
        with translated():
            await asyncio.gather(*(self._client.zrem(key, keys.ref) for key in announced))

    async def _count(self, tenant: str, user: str | None) -> int:
        """The listed sessions, over all partitions: exact, because the scripts that change sessions keep the lists."""
        index = session_index("made", tenant, user)
        indexes = (f"{partition_key(number)}:{index}" for number in range(self._partitions))
        counts = await asyncio.gather(*(self._scripts.read("ZCARD", index) for index in indexes))
        return sum(counts)

    async def is_there(self, keys: SessionKeys) -> bool:
        """Whether the session exists."""
        return bool(await self._scripts.read("HEXISTS", keys.meta, "created"))


@dataclass(slots=True)
class _Found:
    """What turns that were looked for are doing."""

    ended: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)

    def add(self, name: str, status: TurnStatus | None) -> None:
        """One more turn; no status if it has no record."""
        if status is None:
            self.missing.append(name)
        elif status.final:
            self.ended.append(name)
        elif status is TurnStatus.WAITING:
            self.waiting.append(name)
        else:
            self.running.append(name)


async def _none() -> int:
    return 0


def own_limits(found: Mapping[tuple[str, str], Limits], tenant: str, user: str | None) -> tuple[Limits, Limits]:
    """What a tenant and a user have of their own: a user's come before those of every user of the tenant."""
    of_tenant = found.get((tenant, ""), NO_LIMITS)
    if not user:
        return of_tenant, NO_LIMITS
    return of_tenant, found.get((tenant, user), NO_LIMITS).over(found.get((tenant, EACH_USER), NO_LIMITS))


def _escaped(user: str | None) -> str:
    """A user's name within a key; empty for nobody."""
    return "" if user is None else escaped(user).replace("~", "%7E")


def _field(tenant: str, user: str) -> str:
    if not user:
        return escaped(tenant)
    return f"{escaped(tenant)}~{_EACH if user == EACH_USER else _escaped(user)}"


def _names(field: str) -> tuple[str, str]:
    tenant, _, user = field.partition("~")
    return unquote(tenant), EACH_USER if user == _EACH else unquote(user)


def _read(raw: bytes) -> Limits:
    try:
        return Limits.model_validate_json(raw)
    except ValidationError as error:
        raise CorruptRecord("the limits of a tenant or user cannot be read; remove them and set them again") from error
