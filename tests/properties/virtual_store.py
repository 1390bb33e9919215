"""The real scripts on a real server, under a clock that tests move by hand.

Every script gets a few lines in front of it that answer `TIME` from a key and turn relative expiries into absolute
ones by that same key. The absolute times are so far in the future that the server itself never reaches them; moving
the clock removes what it has passed. So lifetimes keep the server's own rules (PERSIST, DEL, SET, emptied lists).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from sessions.store.keys import SessionKeys, partition_key
from sessions.store.script_files import script

EPOCH_MS = 4_000_000_000_000  # the year 2096
PARTITION = partition_key(0)
NEVER = -1

_CLOCK = """
local real, NOW = redis, tonumber(redis.call('GET', 'clock'))
local function forbidden() error('teach tests/properties/virtual_store.py this command') end
local BY_CLOCK = {
  TIME = function(call) return { tostring(math.floor(NOW / 1000)), tostring(NOW % 1000 * 1000) } end,
  PTTL = function(call, key) local at = call('PEXPIRETIME', key) return at < 0 and at or at - NOW end,
  PEXPIRE = function(call, key, ms) return call('PEXPIREAT', key, NOW + ms) end,
  SET = function(call, key, value, ...)
    local options = { ... }
    for i, option in ipairs(options) do
      if option == 'PX' then options[i], options[i + 1] = 'PXAT', NOW + options[i + 1] end
      if option == 'EX' or option == 'EXAT' then return forbidden() end
    end
    return call('SET', key, value, unpack(options))
  end,
  TTL = forbidden, EXPIRE = forbidden, EXPIREAT = forbidden, SETEX = forbidden, PSETEX = forbidden, GETEX = forbidden,
}
local function virtual(call)
  return function(name, ...)
    local by_clock = BY_CLOCK[name]
    if by_clock then return by_clock(call, ...) end
    return call(name, ...)
  end
end
local redis = { call = virtual(redis.call), pcall = virtual(redis.pcall) }
"""

_ADVANCE = """#!lua
redis.call('SET', 'clock', ARGV[1])
for _, key in ipairs(redis.call('KEYS', 'sf:*')) do
  local at = redis.call('PEXPIRETIME', key)
  if at >= 0 and at <= tonumber(ARGV[1]) then redis.call('DEL', key) end
end
"""

_LOOK = """#!lua
local out = {}
for _, key in ipairs(redis.call('KEYS', 'sf:*')) do
  local kind, value = redis.call('TYPE', key).ok, nil
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else value = redis.call('XRANGE', key, '-', '+') end
  out[#out + 1] = { key, kind, redis.call('PEXPIRETIME', key), value }
end
return out
"""

Edits = Mapping[str, tuple[tuple[str, str], ...]]


@dataclass
class StoredTurn:
    """What the store has of one turn; `None` for a key that does not exist. Expiries in ms, or NEVER."""

    record: dict[str, str] | None = None
    events: list[tuple[str, dict[str, str]]] | None = None
    journal: dict[str, str] | None = None
    expires: dict[str, int] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return (self.record or {}).get("status", "")


@dataclass
class StoredSession:
    """What the store has of one session: `keys` by the name after its base, and its turns."""

    keys: dict[str, Any] = field(default_factory=dict)
    expires: dict[str, int] = field(default_factory=dict)
    turns: dict[str, StoredTurn] = field(default_factory=dict)

    @property
    def mailbox(self) -> list[str]:
        return self.keys.get("mailbox", [])

    @property
    def history(self) -> list[str]:
        return self.keys.get("history", [])

    @property
    def meta(self) -> dict[str, str]:
        return self.keys.get("meta", {})


@dataclass
class Snapshot:
    """All that the store holds at one moment."""

    now: int
    sessions: dict[str, StoredSession] = field(default_factory=dict)
    partition: dict[str, Any] = field(default_factory=dict)
    expires: dict[str, int] = field(default_factory=dict)

    @property
    def fence(self) -> int:
        return int(self.partition.get("fence", 0))

    @property
    def wakeups(self) -> dict[str, float]:
        return self.partition.get("wakeups", {})


class VirtualStore:
    """Runs scripts by the virtual clock; `edits` break them on purpose: script or fragment -> (old, new) pairs."""

    def __init__(self, client: redis.Redis, edits: Edits | None = None) -> None:
        self._client = client
        self._edits = edits or {}
        self._known: dict[str, tuple[str, str]] = {}
        self._advance = client.register_script(_ADVANCE)
        self._look = client.register_script(_LOOK)
        self.now = EPOCH_MS

    def clear(self) -> None:
        """An empty store, and the clock at its beginning."""
        self._client.flushdb()
        self.now = EPOCH_MS
        self._client.set("clock", self.now)

    def advance(self, to: int) -> None:
        """Move the clock; what expires until then is gone."""
        self.now = max(self.now, to)
        self._advance(args=[self.now])

    def run(self, name: str, keys: SessionKeys | None, *args: str | int) -> list[Any]:
        """Run a script on a session (or, with none, on the partition); texts of the reply decoded."""
        single = [each for each in script(name).header.arguments if not each.is_list]
        assert len(args) >= len(single), f"{name} takes {', '.join(map(str, script(name).header.arguments))}"
        text, sha = self._text(name)
        names = keys.pair if keys is not None else (PARTITION,)
        try:
            reply = self._client.evalsha(sha, len(names), *names, *args)
        except redis.exceptions.NoScriptError:
            reply = self._client.eval(text, len(names), *names, *args)
        return _decoded(reply)

    def _text(self, name: str) -> tuple[str, str]:
        if name not in self._known:
            text = script(name).text
            for old, new in (*self._edits.get(name, ()), *self._edits.get("*", ())):
                text = text.replace(old, new)
            first, _, rest = text.partition("\n")
            text = f"{first}\n{_CLOCK}{rest}"
            self._known[name] = text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return self._known[name]

    def snapshot(self) -> Snapshot:
        """All that the store holds, in the order of the names: the server's own order depends on its hash seed, and on
        how far it has moved its keys to a larger table, which it does in its spare time.
        """
        found = Snapshot(self.now)
        for key, kind, expires, raw in sorted(_decoded(self._look()), key=lambda entry: entry[0]):
            name = key.removeprefix(PARTITION + ":")
            value = _VALUES[kind](raw)
            if ":" not in name:
                found.partition[name], found.expires[name] = value, expires
                continue
            tenant, session_id, rest = name.split(":", 2)
            _place(found.sessions.setdefault(f"{tenant}:{session_id}", StoredSession()), rest, value, expires)
        return found


def _place(session: StoredSession, name: str, value: Any, expires: int) -> None:
    if not name.startswith("turn:"):
        session.keys[name], session.expires[name] = value, expires
        return
    _, part, *suffix = name.split(":")
    turn = session.turns.setdefault(part, StoredTurn())
    which = suffix[0] if suffix else "record"
    setattr(turn, which, value)
    turn.expires[which] = expires


def _pairs(raw: list[Any]) -> dict[str, Any]:
    return dict(zip(raw[::2], raw[1::2], strict=True))


_VALUES = {
    "string": str,
    "list": list,
    "hash": _pairs,
    "zset": lambda raw: {member: float(score) for member, score in _pairs(raw).items()},
    "stream": lambda raw: [(eid, _pairs(fields)) for eid, fields in raw],
}


def _decoded(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, dict):  # RESP3 maps and RESP2 lists read alike
        return [_decoded(item) for pair in reply.items() for item in pair]
    return [_decoded(item) for item in reply] if isinstance(reply, list) else reply
