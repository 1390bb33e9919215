"""An event as it is stored: each is encrypted for its id in its turn's stream.

The script decides which id an answer's event gets, so those are encrypted for their type. Events that the scripts write
themselves (a turn started, ended) are not encrypted.
"""

from __future__ import annotations

import json

from sessions.protocol.event import Event, EventType
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing
from sessions.store.turn_fields import ERROR


def read_event(keyring: KeyRing, keys: SessionKeys, part: str, entry: tuple[bytes, dict[bytes, bytes]]) -> Event:
    """An event as XRANGE returns it.

    Raises:
        SealError: it cannot be decrypted.
    """
    eid, fields = entry[0].decode(), entry[1]
    kind = EventType(fields[b"type"].decode())
    place = kind.value if kind is EventType.ANSWERED else eid
    data = json.loads(keyring.open(keys.events(part), place, fields[b"data"]))
    if b"error" in fields:  # an encrypted one cannot be inside the JSON that the script makes
        data["error"] = json.loads(keyring.open(keys.turn(part), ERROR, fields[b"error"]))
    return Event(eid, kind, data)
