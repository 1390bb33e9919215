"""Every key in the store is named here and nowhere else (`docs/keys.md` lists them with type and lifetime).

The keys of a session and the wake-up index of its partition carry the same hash tag, so that they share a Redis
Cluster slot and one script changes both atomically. An id may contain ':'; it is escaped, so that no two ids and
no id and a suffix can meet in one key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from hashlib import blake2b
from urllib.parse import quote

import uuid_utils

from sessions.errors import BadRequest, InvalidSessionId, InvalidTurnId

ROOT = "sf:v1"
FLEET = f"{ROOT}:{{fleet}}"

PARTITION_COUNT = f"{FLEET}:partitions"
WORKERS = f"{FLEET}:workers"
CONSUMED = f"{FLEET}:consumed"
INDEX = f"{FLEET}:index"
PROBE = f"{FLEET}:probe"
API_KEYS = f"{FLEET}:apikeys"
API_KEYS_USED = f"{FLEET}:apikeys:used"
API_KEYS_REVOKED = f"{FLEET}:apikeys:revoked"

WIDE_APP = "~app"

# SESSIONFLEET_TENANT allows the same: a tenant's name has no ':', which parts it from the session in a key.
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z")
# A session, or what is not a session's, with the name of a lane.
_LANE_ID = re.compile(r"(~[a-z]+:[A-Za-z0-9._%-]+|[A-Za-z0-9][A-Za-z0-9._:@-]{0,127})~[a-z]+\Z")
_TURN_PART = re.compile(r"[0-9a-f]{32}\Z")


def worker_key(worker_id: str) -> str:
    """What a living worker says of itself."""
    return f"{FLEET}:worker:{worker_id}"


def limit_key(tenant: str, caller: str) -> str:
    """What the keys of one caller's limits begin with: a slot of its own, so that limits spread over a cluster."""
    digest = blake2b(f"{tenant}\0{caller}".encode(), digest_size=16).hexdigest()
    return f"{ROOT}:{{limit-{digest}}}"


def valid_session_id(session_id: object) -> str:
    """Return the id, or refuse it.

    Raises:
        InvalidSessionId: it is not a string of 1 to 128 allowed characters.
    """
    if isinstance(session_id, str) and _SESSION_ID.match(session_id):
        return session_id
    shown = repr(session_id if not isinstance(session_id, str) else session_id[:140])
    raise InvalidSessionId(f"session id {shown}: {InvalidSessionId.__doc__}")


def valid_tenant(tenant: object) -> str:
    """Return the tenant's name, or refuse it.

    Raises:
        BadRequest: it is not a string of 1 to 64 allowed characters.
    """
    if isinstance(tenant, str) and _TENANT.match(tenant):
        return tenant
    raise BadRequest(f"tenant {tenant!r}: letters, digits and '._@-', 1 to 64 of them, the first a letter or digit")


def new_session_id() -> str:
    """An id for a session that was given none: 128 random bits."""
    return str(uuid_utils.uuid4().hex)


def keyed_session_id(*parts: str) -> str:
    """An id for a session that is found again by these: whoever asks twice under one idempotency key means the same."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def new_turn_part() -> str:
    """The part of a turn id behind the session: a UUIDv7, so that ids sort by time."""
    return str(uuid_utils.uuid7().hex)


def split_turn_id(turn_id: object) -> tuple[str, str]:
    """A public turn id, `<session>~<uuid>`, as session id and turn part.

    Raises:
        InvalidTurnId: it does not have that form.
    """
    if isinstance(turn_id, str):
        session, mark, part = turn_id.rpartition("~")
        known = _SESSION_ID.match(session) or _LANE_ID.match(session)
        if mark and known and _TURN_PART.match(part):
            return session, part
    raise InvalidTurnId(f"turn id {turn_id!r}: {InvalidTurnId.__doc__}")


def wide_name(kind: str, name: str) -> str:
    """What belongs to no session: `~user:<user>`, `~base:<name>`. No session id has a '~', and no two names meet."""
    return f"~{kind}:{quote(name, safe='').replace('~', '%7E')}"


def partition_of(tenant: str, session_id: str, partitions: int) -> int:
    """The partition that a session lives in; the same on every machine and in every version."""
    digest = blake2b(f"{tenant}\0{session_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def partition_key(partition: int) -> str:
    """What all keys of a partition begin with."""
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
        ref = f"{tenant}:{session_id.replace(':', '%3A')}"
        return cls(session_id=session_id, ref=ref, base=f"{partition}:{ref}", partition=partition)

    @classmethod
    def wide(cls, tenant: str, name: str, partitions: int) -> SessionKeys:
        """The keys of what a user (`wide_name`) or the tenant (`WIDE_APP`) has, in the partition of that name."""
        partition = partition_key(partition_of(tenant, name, partitions))
        ref = f"{tenant}:{name}"
        return cls(session_id=name, ref=ref, base=f"{partition}:{ref}", partition=partition)

    @classmethod
    def from_ref(cls, ref: str, partitions: int) -> SessionKeys:
        """The keys for what a wake-up carries: `<tenant>:<escaped session id>`, or that of a lane."""
        tenant, _, escaped = ref.partition(":")
        wide = escaped.startswith("~")
        owner, _, lane = escaped.removeprefix("~").partition("~")
        if wide:
            keys = cls.wide(tenant, f"~{owner}", partitions)
        else:
            keys = cls.of(tenant, valid_session_id(owner.replace("%3A", ":")), partitions)
        return keys.lane(lane) if lane else keys

    @classmethod
    def from_id(cls, tenant: str, session_id: str, partitions: int) -> SessionKeys:
        """The keys for the session's part of a turn id, which may name a lane."""
        escaped = session_id if session_id.startswith("~") else session_id.replace(":", "%3A")
        return cls.from_ref(f"{tenant}:{escaped}", partitions)

    def lane(self, name: str) -> SessionKeys:
        """A lane beside the session: a mailbox and a lease of its own in the same slot, so that neither waits (R16)."""
        return replace(
            self, session_id=f"{self.session_id}~{name}", ref=f"{self.ref}~{name}", base=f"{self.base}~{name}"
        )

    @property
    def is_lane(self) -> bool:
        """Whether these are a lane's keys."""
        return "~" in self.session_id.removeprefix("~")

    @property
    def home(self) -> SessionKeys:
        """The session, or what else, that a lane stands beside."""
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
        """Whose session it is."""
        return self.ref.partition(":")[0]

    @property
    def meta(self) -> str:
        """Hash: owner, created, queue, counts."""
        return f"{self.base}:meta"

    @property
    def mailbox(self) -> str:
        """List: turns that have not ended, in order; the head is the one that runs."""
        return f"{self.base}:mailbox"

    @property
    def history(self) -> str:
        """List: one entry for each committed turn."""
        return f"{self.base}:history"

    @property
    def agents(self) -> str:
        """Hash: agent name -> configuration, as the session knows it, or as the tenant (`WIDE_APP`) defines it."""
        return f"{self.base}:agents"

    @property
    def state(self) -> str:
        """Hash: field -> JSON."""
        return f"{self.base}:state"

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
        """Hash: the finished steps of an open turn."""
        return f"{self.base}:turn:{part}:journal"

    def inbox(self, part: str) -> str:
        """List: the messages that join an open turn, as far as it has not read them."""
        return f"{self.base}:turn:{part}:inbox"

    def upload(self, part: str) -> str:
        """String: the document that comes with a turn."""
        return f"{self.base}:turn:{part}:upload"

    @property
    def sources(self) -> str:
        """Hash: what is known of each document of a lane's knowledge."""
        return f"{self.base}:sources"

    @property
    def texts(self) -> str:
        """Hash: texts of chunks, where the index holds none."""
        return f"{self.base}:texts"

    def idempotency(self, key: str) -> str:
        """Hash: the turn that was accepted under this (hashed) key of a client's."""
        return f"{self.base}:idem:{key}"

    def public_id(self, part: str) -> str:
        """The turn id that users see; it holds its session, so that its partition can be found (R16)."""
        return f"{self.session_id}~{part}"


def lanes_key(partition: str) -> str:
    """Set: the lanes of a partition that have documents."""
    return f"{partition}:lanes"


def bell_channel(partition: str, client: str) -> str:
    """The sharded channel on which one client hears of its turns in one partition."""
    return f"{partition}:bell:{client}"
