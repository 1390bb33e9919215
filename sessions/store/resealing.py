"""Re-encrypting, with the first key, what was encrypted with an older key or stored before there were any keys.

A value is replaced only if it is still the one that was read, so this may run next to clients and workers, and may be
repeated. Whatever expires by itself is left as it is: events, messages that are about to join a turn, effects, and
unencrypted turns.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sessions.errors import SealError
from sessions.store.approved_tools import APPROVED_TOOLS
from sessions.store.keys import ROOT, SessionKeys
from sessions.store.open_turn import agent_name
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.session_info import SEALED
from sessions.store.summaries import SUMMARY, SUMMARY_FIELDS
from sessions.store.transitions.records import ValueKind, reseal_values
from sessions.store.turn_fields import ERROR, METADATA, REQUEST, RESULT, WEBHOOK

_KEY: Final = re.compile(r"(?P<partition>sf:v1:\{\d+\}):(?P<ref>[^:]+:(?:~[a-z]+:)?[^:]+):(?P<rest>.+)\Z")
_TURN: Final = re.compile(r"turn:(?P<part>[0-9a-f]{32})(?P<of>:journal|:upload)?\Z")
_FILE: Final = re.compile(r"file:[0-9a-f]{64}\Z")
_HASHES: Final = ("adapters", "agents", "state", "memory", "sources", "texts", "schedules")
_PAGE: Final = 50

Reencrypt = Callable[[str, str, bytes], bytes]
"""A value for its place (key, field), encrypted with the first key."""


@dataclass(slots=True)
class Resealed:
    """The result: how many values were re-encrypted, and, by key, why some were not."""

    values: int = 0
    closed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """A key of the store: its owner, and what follows the owner's base."""

    keys: SessionKeys
    rest: str

    @property
    def key(self) -> str:
        return f"{self.keys.base}:{self.rest}"


class Resealing:
    """Goes through a deployment, or through one session with its lanes."""

    def __init__(self, scripts: ScriptRunner, client: Any, keyring: KeyRing, partitions: int) -> None:
        self._scripts = scripts
        self._client = client
        self._keyring = keyring
        self._partitions = partitions

    async def run(self, session: SessionKeys | None = None) -> Resealed:
        """Re-encrypt everything that is not encrypted with the first key.

        Raises:
            StoreUnavailable, StoreFull, BackendError: the store did not answer; what was done stays.
        """
        found = Resealed()
        async for place in self._places(session):
            try:
                found.values += await self._reseal(place)
            except SealError as error:
                found.closed[place.key] = str(error)
        return found

    async def _places(self, session: SessionKeys | None) -> AsyncIterator[_Place]:
        pattern = f"{ROOT}:*" if session is None else f"{session.base}*"
        with translated():
            async for raw in self._client.scan_iter(match=pattern, count=1000):
                name = _KEY.match(raw.decode())
                if name is None:
                    continue
                keys = SessionKeys.from_ref(name["ref"], self._partitions)
                if session is None or session.base in (keys.base, keys.home.base if keys.is_lane else ""):
                    yield _Place(keys, name["rest"])

    async def _reseal(self, place: _Place) -> int:
        turn = _TURN.match(place.rest)
        if place.rest in _HASHES or (turn and turn["of"] == ":journal"):
            return await self._hash(place, self._field)
        if turn and turn["of"] is None:
            return await self._record(place)
        match place.rest:
            case "meta":
                return await self._fields(place, (*SEALED, *SUMMARY_FIELDS, APPROVED_TOOLS))
            case "history" | "left" | "segments":
                # An entry that leaves the history meanwhile, or gets into a segment, is then found in the other lists.
                lists = ("segments", "history", "left", "segments")
                return sum([await self._entries(place.keys, name) for name in lists])
            case "memory:vectors" | "files":
                return await self._hash(place, self._tagged)
            case "checkpoints":
                return await self._hash(place, lambda _, __, value: self._checkpoint(place.keys, value))
        if _FILE.match(place.rest):
            return await self._file(place)
        if turn:
            return await self._upload(place)
        return 0

    # --- the kinds of keys ------------------------------------------------------------------------------

    async def _hash(self, place: _Place, reencrypt: Reencrypt) -> int:
        done = 0
        with translated():
            async for page in _pages(self._client.hscan_iter(place.key, count=_PAGE)):
                fields = [(raw.decode(), value) for raw, value in page]
                done += await self._swap(place, "hash", ((f, v, reencrypt(place.key, f, v)) for f, v in fields))
        return done

    async def _fields(self, place: _Place, names: tuple[str, ...]) -> int:
        with translated():
            stored = await self._client.hmget(place.key, names)
        values = ((n, v, self._field(place.key, n, v)) for n, v in zip(names, stored, strict=True) if v is not None)
        return await self._swap(place, "hash", values)

    async def _entries(self, keys: SessionKeys, rest: str) -> int:
        place, done, start = _Place(keys, rest), 0, 0
        with translated():
            while page := await self._client.lrange(place.key, start, start + _PAGE - 1):
                sealed_for = keys.segments if rest == "segments" else keys.history
                entries = [(str(start + i), entry, self._field(sealed_for, "", entry)) for i, entry in enumerate(page)]
                done += await self._swap(place, "list", iter(entries))
                start += len(page)
        return done

    async def _file(self, place: _Place) -> int:
        """The pieces of a file, one after the other: a page of them would be large."""
        done = 0
        with translated():
            numbers = [raw.decode() for raw in await self._client.hkeys(place.key)]
        for number in numbers:
            with translated():
                value = await self._client.hget(place.key, number)
            if value is not None:
                new = self._field(place.key, number, value)
                done += await self._swap(place, "hash", iter([(number, value, new)]))
        return done

    async def _upload(self, place: _Place) -> int:
        with translated():
            value = await self._client.get(place.key)
        if value is None:
            return 0
        return await self._swap(place, "string", iter([("", value, self._field(place.key, "", value))]))

    async def _record(self, place: _Place) -> int:
        """A turn's own fields. Unencrypted ones stay so, because scripts read the request of an open turn."""
        fields = (REQUEST, RESULT, ERROR, WEBHOOK, METADATA, "agent", SUMMARY)
        with translated():
            stored = await self._client.hmget(place.key, fields)
        found = {name: value for name, value in zip(fields, stored, strict=True) if value is not None}
        values = ((n, v, self._turn_field(place, found, n)) for n, v in found.items() if self._keyring.sealed(v))
        return await self._swap(place, "hash", values)

    def _turn_field(self, place: _Place, found: dict[str, bytes], name: str) -> bytes:
        value, keys = found[name], place.keys
        match name:
            case "agent":
                request = self._keyring.open(place.key, REQUEST, found[REQUEST])
                return self._field(keys.agents, agent_name(request), value)
            case "webhook":
                return self._field(keys.base, name, value)
            case "summary":  # a script copied it from the session's record
                return self._field(keys.meta, name, value)
        return self._field(place.key, name, value)

    # --- values -----------------------------------------------------------------------------------------

    def _field(self, key: str, field: str, value: bytes) -> bytes:
        if self._keyring.current(value) or (key.endswith(":journal") and not self._keyring.sealed(value)):
            return value
        return self._keyring.seal(key, field, self._keyring.open(key, field, value))

    def _tagged(self, key: str, field: str, value: bytes) -> bytes:
        """A value with an unencrypted beginning, up to the colon."""
        tag, mark, sealed = value.partition(b":")
        return tag + mark + self._field(key, field, sealed)

    def _checkpoint(self, keys: SessionKeys, value: bytes) -> bytes:
        """Its values are encrypted as the session's own are, and are in it byte by byte, as its script writes them."""
        stored, changed = json.loads(value.decode("latin-1")), False
        for part, key in (("state", keys.state), ("agents", keys.agents)):
            for name, text in stored[part].items():
                raw, field = text.encode("latin-1"), name.encode("latin-1").decode()
                new = self._field(key, field, raw)
                changed = changed or new != raw
                stored[part][name] = new.decode("latin-1")
        return json.dumps(stored, ensure_ascii=False).encode("latin-1") if changed else value

    async def _swap(self, place: _Place, kind: ValueKind, values: Iterator[tuple[str, bytes, bytes]]) -> int:
        changed = [(name, old, new) for name, old, new in values if new != old]
        if not changed:
            return 0
        call = reseal_values(place.keys.pair, name=place.rest, kind=kind, values=changed)
        return (await self._scripts.run(call)).count


async def _pages(items: AsyncIterator[tuple[bytes, bytes]]) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    page: list[tuple[bytes, bytes]] = []
    async for item in items:
        page.append(item)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page
