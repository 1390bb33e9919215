"""An event as it is stored: each is sealed for its id in the stream of its turn.

Which id an answer's event gets is decided by its script, so those are sealed for their type. What the scripts say
themselves (a turn started, ended) is in the clear.
"""

from __future__ import annotations

import json

from sessions.protocol.event import Event, EventType
from sessions.store.keys import SessionKeys
from sessions.store.new_turn import ERROR
from sessions.store.sealing import KeyRing


def read_event(ring: KeyRing, keys: SessionKeys, part: str, entry: tuple[bytes, dict[bytes, bytes]]) -> Event:
    """An event as XRANGE returns it.

    Raises:
        SealError: it does not open.
    """
    eid, fields = entry[0].decode(), entry[1]
    kind = EventType(fields[b"type"].decode())
    place = kind.value if kind is EventType.ANSWERED else eid
    data = json.loads(ring.open(keys.events(part), place, fields[b"data"]))
    if b"error" in fields:  # a sealed one cannot stand within the JSON that the script makes
        data["error"] = json.loads(ring.open(keys.turn(part), ERROR, fields[b"error"]))
    return Event(eid, kind, data)
