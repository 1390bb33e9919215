"""Messages that join a running turn: from its inbox to its journal, with their events."""

from __future__ import annotations

import json
from typing import Any

from sessions.errors import SealError
from sessions.store.keys import SessionKeys
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.transitions import leases as transitions
from sessions.store.transitions.shared import Lost
from sessions.store.turn_fields import MESSAGE, PARTS


class Steering:
    """Takes the messages in a turn's inbox, under its lease."""

    def __init__(self, scripts: ScriptRunner, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._keyring = keyring

    async def take(self, keys: SessionKeys, turn: OpenTurn, field: str, seq: int) -> tuple[bytes, int] | None:
        """Journal the unread messages under this field; returns them and how many. None: lost.

        They are a JSON array: each a text, or an object with `text` and `parts` (JSON in JSON) for one with files.
        """
        encrypted, events = await self._encrypted(keys, turn, field, seq) if self._keyring.ids else (b"", [])
        call = transitions.take_steering(
            keys.pair,
            turn=turn.part,
            lease=turn.lease,
            field=field,
            first_seq=seq,
            encrypted=encrypted,
            events=events,
        )
        reply = await self._scripts.run(call)
        if isinstance(reply, Lost):
            return None
        if isinstance(reply, transitions.Nothing):
            return b"", 0
        if not self._keyring.ids and KeyRing.sealed_within(reply.messages):
            raise SealError(
                "a message that joins this turn is encrypted, and SESSIONFLEET_ENCRYPTION_KEYS is not set here"
            )
        messages = self._keyring.open(keys.journal(turn.part), field, reply.messages)
        return messages, len(json.loads(messages))

    async def _encrypted(self, keys: SessionKeys, turn: OpenTurn, field: str, seq: int) -> tuple[bytes, list[bytes]]:
        """All messages, encrypted for the journal, and each of them for its event."""
        entries = await self._scripts.read("LRANGE", keys.inbox(turn.part), 0, -1)
        messages = [self._message(keys, entry) for entry in entries]
        stream = keys.events(turn.part)
        events = [
            self._keyring.seal(stream, f"{turn.token}-{number}", json.dumps(_event(message)).encode())
            for number, message in enumerate(messages, seq)
        ]
        return self._keyring.seal(keys.journal(turn.part), field, json.dumps(messages).encode()), events

    def _message(self, keys: SessionKeys, entry: bytes) -> str | dict[str, str]:
        # The script's JSON contains the bytes of an encrypted text as they are, which are not UTF-8.
        stored = json.loads(entry.decode("latin-1"))
        place = keys.turn(stored["id"])
        text = self._keyring.open(place, MESSAGE, stored["text"].encode("latin-1")).decode()
        if "parts" not in stored:
            return text
        return {"text": text, "parts": self._keyring.open(place, PARTS, stored["parts"].encode("latin-1")).decode()}


def _event(message: str | dict[str, str]) -> dict[str, Any]:
    if isinstance(message, str):
        return {"text": message}
    return {"text": message["text"], "parts": json.loads(message["parts"])}
