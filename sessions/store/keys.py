"""Every key in the store is named here and nowhere else (`docs/keys.md` lists them with type and lifetime).

The keys of a session and the wake-up index of its partition have the same hash tag, so that they share a Redis
Cluster slot and one script can change both atomically. Names of sessions and tenants are percent-encoded, so that keys
are ASCII, and no two names, and no name and a suffix, can make the same key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal
from urllib.parse import quote, unquote

import uuid_utils

from broker_config.names import LONGEST_ID, LONGEST_TENANT, name_problem
from sessions.errors import BadRequest, InvalidSessionId, InvalidTurnId

ROOT = "sf:v1"
FLEET = f"{ROOT}:{{fleet}}"

PARTITION_COUNT = f"{FLEET}:partitions"
WORKERS = f"{FLEET}:workers"
CONSUMED = f"{FLEET}:consumed"
INDEX = f"{FLEET}:index"
PROBE = f"{FLEET}:probe"
INDEXED = f"{FLEET}:indexed"
SEGMENTS = f"{FLEET}:segments"
INDEXING = f"{FLEET}:indexing"
BUDGETS = f"{FLEET}:budgets"
BUDGETS_VERSION = f"{FLEET}:budgets:version"
API_KEYS = f"{FLEET}:apikeys"
API_KEYS_USED = f"{FLEET}:apikeys:used"
LIMITS = f"{FLEET}:limits"
LIMITS_VERSION = f"{FLEET}:limits:version"
API_KEYS_REVOKED = f"{FLEET}:apikeys:revoked"

WIDE_APP = "~app"

IndexKind = Literal["used", "made", "hidden", "shared", "asking"]
"""Sorted sets: sessions by last use, by creation, those made for one task or run, which no list shows, those of others
that are shared with a user, by last use, and those with a turn that waits for an answer, by when the last one began
to."""

# The lane of something that belongs to no session; see `wide_name`.
_WIDE_LANE = re.compile(r"~[a-z]+:[A-Za-z0-9._%-]+~[a-z]+\Z")
_LANE = re.compile(r"[a-z]+\Z")
_TURN_PART = re.compile(r"[0-9a-f]{32}\Z")


def worker_key(worker_id: str) -> str:
    """What a running worker reports about itself."""
    return f"{FLEET}:worker:{worker_id}"


def limit_key(tenant: str, caller: str) -> str:
    """The prefix of the keys of one caller's limits: a separate slot, so that limits spread over a cluster."""
    digest = blake2b(f"{tenant}\0{caller}".encode(), digest_size=16).hexdigest()
    return f"{ROOT}:{{limit-{digest}}}"


def quota_key(tenant: str) -> str:
    """The prefix of the keys that count the turns of a tenant and its users, where there are limits."""
    return f"{ROOT}:{{quota-{blake2b(tenant.encode(), digest_size=16).hexdigest()}}}"


def rota_key(queue: str) -> str:
    """The prefix of the keys of a Celery queue's rota: a separate slot for each."""
    return f"{ROOT}:{{rota-{blake2b(queue.encode(), digest_size=16).hexdigest()}}}"


def budget_key(tenant: str, user_id: str | None) -> str:
    """The prefix of the keys of a tenant's budget, or of one user's: a separate slot for each."""
    digest = blake2b(f"{tenant}\0{'' if user_id is None else user_id}".encode(), digest_size=16).hexdigest()
    return f"{ROOT}:{{budget-{digest}}}"


def valid_session_id(session_id: object) -> str:
    """Return the id, or refuse it.

    Raises:
        InvalidSessionId: it is not a string of 1 to 256 allowed characters.
    """
    if problem := name_problem(session_id, LONGEST_ID):
        raise InvalidSessionId(f"session id {_quoted(session_id)}: {problem}")
    return str(session_id)


def valid_tenant(tenant: object) -> str:
    """Return the tenant's name, or refuse it.

    Raises:
        BadRequest: it is not a string of 1 to 64 allowed characters.
    """
    if problem := name_problem(tenant, LONGEST_TENANT):
        raise BadRequest(f"tenant {_quoted(tenant)}: {problem}")
    return str(tenant)


def _quoted(name: object) -> str:
    return repr(name[:300] if isinstance(name, str) else name)


def new_session_id() -> str:
    """An id for a session that was given none: 128 random bits."""
    return str(uuid_utils.uuid4().hex)


def keyed_session_id(*parts: str) -> str:
    """A session id derived from these parts: using an idempotency key again means the same session."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def new_turn_part() -> str:
    """The part of a turn id after the session: a UUIDv7, so that ids sort by time."""
    return str(uuid_utils.uuid7().hex)


def is_operation(turn_id: str) -> bool:
    """Whether a turn's public id is that of an operation in a lane, `<session>~<lane>~<uuid>`."""
    return turn_id.removeprefix("~").count("~") > 1


def split_turn_id(turn_id: object) -> tuple[str, str]:
    """A public turn id, `<session>~<uuid>`, as session id and turn part.

    Raises:
        InvalidTurnId: it does not have that form.
    """
    if isinstance(turn_id, str):
        session, mark, part = turn_id.rpartition("~")
        if mark and _TURN_PART.match(part) and _is_session_or_lane(session):
            return session, part
    raise InvalidTurnId(f"turn id {turn_id!r}: {InvalidTurnId.__doc__}")


def _is_session_or_lane(name: str) -> bool:
    if name.startswith("~"):
        return _WIDE_LANE.match(name) is not None
    session, mark, lane = name.partition("~")
    return name_problem(session, LONGEST_ID) is None and (not mark or _LANE.match(lane) is not None)


def wide_name(kind: str, name: str) -> str:
    """The name of something outside sessions, `~user:<user>` or `~base:<name>`; it collides with no session id."""
    return f"~{kind}:{quote(name, safe='').replace('~', '%7E')}"


def escaped(name: str) -> str:
    """A session's or tenant's name as a part of a key: percent-encoded UTF-8, ASCII without ':', '~' and braces."""
    return quote(name, safe="@")


def partition_of(tenant: str, session_id: str, partitions: int) -> int:
    """The partition of a session; the same on every machine and in every version."""
    digest = blake2b(f"{tenant}\0{session_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def partition_key(partition: int) -> str:
    """The prefix of all keys of a partition."""
    return f"{ROOT}:{{{partition}}}"


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The keys of one session. Scripts get `base` and `partition` and derive the others the same way."""

    session_id: str
    ref: str
    base: str
    partition: str

    @classmethod
    def of(cls, tenant: str, session_id: str, partitions: int) -> SessionKeys:
        """The keys of a tenant's session."""
        partition = partition_key(partition_of(tenant, session_id, partitions))
        ref = f"{escaped(tenant)}:{escaped(session_id)}"
        return cls(session_id=session_id, ref=ref, base=f"{partition}:{ref}", partition=partition)

    @classmethod
    def from_name(cls, tenant: str, name: str, partitions: int) -> SessionKeys:
        """The keys of the session that an index has under this (escaped) name."""
        return cls.of(tenant, unquote(name), partitions)

    @classmethod
    def wide(cls, tenant: str, name: str, partitions: int) -> SessionKeys:
        """The keys of a user's (`wide_name`) or the tenant's (`WIDE_APP`) records, in the partition of that name."""
        partition = partition_key(partition_of(tenant, name, partitions))
        ref = f"{escaped(tenant)}:{name}"
        return cls(session_id=name, ref=ref, base=f"{partition}:{ref}", partition=partition)

    @classmethod
    def from_ref(cls, ref: str, partitions: int) -> SessionKeys:
        """The keys for the content of a wake-up: `<escaped tenant>:<escaped session id>`, or that of a lane.

        Raises:
            InvalidSessionId: no session has this key. Another spelling of an escaped name would be a second mailbox of
                the same session.
        """
        tenant, _, name = ref.partition(":")
        if name.startswith("~"):
            keys = cls.from_id(unquote(tenant), name, partitions)
        else:
            owner, mark, lane = name.partition("~")
            keys = cls.from_id(unquote(tenant), f"{unquote(owner)}{mark}{lane}", partitions)
        if keys.ref != ref:
            raise InvalidSessionId(f"{ref!r} is not in the form of a session's key")
        return keys

    @classmethod
    def from_id(cls, tenant: str, session_id: str, partitions: int) -> SessionKeys:
        """The keys for the session's part of a turn id, which may name a lane.

        Raises:
            InvalidSessionId: it is neither a session id nor one with the name of a lane.
        """
        owner, _, lane = session_id.removeprefix("~").partition("~")
        wide = session_id.startswith("~")
        keys = (
            cls.wide(tenant, f"~{owner}", partitions) if wide else cls.of(tenant, valid_session_id(owner), partitions)
        )
        return keys.lane(lane) if lane else keys

    def lane(self, name: str) -> SessionKeys:
        """A lane of the session: its own mailbox and lease in the same slot, so that neither waits for the other."""
        return replace(
            self, session_id=f"{self.session_id}~{name}", ref=f"{self.ref}~{name}", base=f"{self.base}~{name}"
        )

    @property
    def is_lane(self) -> bool:
        """Whether these are a lane's keys."""
        return "~" in self.session_id.removeprefix("~")

    @property
    def home(self) -> SessionKeys:
        """The session, or other owner, that a lane belongs to."""
        return replace(
            self,
            session_id=self.session_id.rpartition("~")[0],
            ref=self.ref.rpartition("~")[0],
            base=self.base.rpartition("~")[0],
        )

    @property
    def pair(self) -> tuple[str, str]:
        """KEYS of every session script: the session's base, the partition's base."""
        return self.base, self.partition

    @property
    def tenant(self) -> str:
        """The tenant of the session."""
        return unquote(self.ref.partition(":")[0])

    @property
    def meta(self) -> str:
        """Hash: owner, created, queue, counts."""
        return f"{self.base}:meta"

    @property
    def shares(self) -> str:
        """Hash: user -> read or write, of users whom the owner shares the session with."""
        return f"{self.base}:shares"

    @property
    def mailbox(self) -> str:
        """List: turns that have not ended, in order; the head is the one that runs."""
        return f"{self.base}:mailbox"

    @property
    def lease(self) -> str:
        """String: the lease of the worker that runs the session."""
        return f"{self.base}:lease"

    @property
    def history(self) -> str:
        """List: one entry per committed turn."""
        return f"{self.base}:history"

    @property
    def segments(self) -> str:
        """List: the oldest entries of the history, many of them together in each segment."""
        return f"{self.base}:segments"

    @property
    def left(self) -> str:
        """List: the entries of turns that left the history, because other turns took their place."""
        return f"{self.base}:left"

    @property
    def branches(self) -> str:
        """List: a record for each branch, in the order in which they left the history."""
        return f"{self.base}:branches"

    @property
    def adapters(self) -> str:
        """Hash: adapter -> what another library keeps about the conversation besides its messages."""
        return f"{self.base}:adapters"

    @property
    def agents(self) -> str:
        """Hash: agent name -> configuration, as the session knows it, or as the tenant (`WIDE_APP`) defines it."""
        return f"{self.base}:agents"

    @property
    def state(self) -> str:
        """Hash: field -> JSON."""
        return f"{self.base}:state"

    @property
    def schedules(self) -> str:
        """Hash: schedule -> what is sent at each of its ticks."""
        return f"{self.base}:schedules"

    @property
    def waiting(self) -> str:
        """Sorted set: turns that wait for answers, by when their waits run out."""
        return f"{self.base}:waiting"

    @property
    def outbox(self) -> str:
        """List: effects of ended turns that are still to be applied elsewhere."""
        return f"{self.base}:outbox"

    @property
    def turns(self) -> str:
        """Sorted set: turn -> when its record expires (+inf while it is open)."""
        return f"{self.base}:turns"

    def turn(self, part: str) -> str:
        """Hash: the record of a turn."""
        return f"{self.base}:turn:{part}"

    def events(self, part: str) -> str:
        """Stream: the events of a turn."""
        return f"{self.base}:turn:{part}:events"

    def journal(self, part: str) -> str:
        """Hash: the completed steps of an open turn."""
        return f"{self.base}:turn:{part}:journal"

    def inbox(self, part: str) -> str:
        """List: messages that joined an open turn and that it has not read yet."""
        return f"{self.base}:turn:{part}:inbox"

    def upload(self, part: str) -> str:
        """String: the document that belongs to a turn."""
        return f"{self.base}:turn:{part}:upload"

    @property
    def files(self) -> str:
        """Hash: file -> its size, its state and its details."""
        return f"{self.base}:files"

    def file(self, file_id: str) -> str:
        """Hash: the bytes of a file, in numbered pieces."""
        return f"{self.base}:file:{file_id}"

    @property
    def sources(self) -> str:
        """Hash: details of each document in a lane's knowledge."""
        return f"{self.base}:sources"

    @property
    def texts(self) -> str:
        """Hash: texts of chunks, if the index does not store them."""
        return f"{self.base}:texts"

    def idempotency(self, key: str) -> str:
        """Hash: the turn that was accepted under this (hashed) idempotency key."""
        return f"{self.base}:idem:{key}"

    def public_id(self, part: str) -> str:
        """The turn id that users see; it contains its session, so that its partition can be found (R16)."""
        return f"{self.session_id}~{part}"


def session_index(kind: IndexKind, tenant: str, user_id: str | None = None) -> str:
    """The name of an index of a tenant's sessions, or of one user's, after the base of each partition."""
    owner = "" if user_id is None else "~" + escaped(user_id).replace("~", "%7E")
    return f"{kind}~{escaped(tenant)}{owner}"


def usage_counters(tenant: str, day: str) -> str:
    """The end of the name of the counters of a tenant's usage on a day, such as `2026-11-30`, in each partition."""
    return f"~{escaped(tenant)}~{day}"


def lanes_key(partition: str) -> str:
    """Set: the lanes of a partition that have documents."""
    return f"{partition}:lanes"


def bell_channel(partition: str, client: str) -> str:
    """The sharded channel on which one client is notified of its turns in one partition."""
    return f"{partition}:bell:{client}"


def searches_channel(process: str) -> str:
    """The sharded channel on which a process of the retrieval role receives searches: a separate slot for each."""
    return f"{_direct(process)}:searches"


def answers_channel(caller: str) -> str:
    """The sharded channel on which a process receives the answers to its searches."""
    return f"{_direct(caller)}:answers"


def _direct(process: str) -> str:
    return f"{ROOT}:{{direct-{process}}}"
