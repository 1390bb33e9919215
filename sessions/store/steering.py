"""Messages that join a running turn: from its inbox into its journal, with their events."""

from __future__ import annotations

import json

from sessions.errors import SealError
from sessions.store.keys import SessionKeys
from sessions.store.new_turn import MESSAGE
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import Arg, ScriptRunner
from sessions.store.sealing import KeyRing


class Steering:
    """Takes what is in the inbox of a turn, under its lease."""

    def __init__(self, scripts: ScriptRunner, ring: KeyRing) -> None:
        self._scripts = scripts
        self._ring = ring

    async def take(self, keys: SessionKeys, turn: OpenTurn, field: str, seq: int) -> tuple[bytes, int] | None:
        """Journal the unread messages under this field; these (JSON array of texts), and how many. None: lost.

        Raises:
            SealError: one does not open.
        """
        args: list[Arg] = [turn.part, turn.lease, field, seq]
        if self._ring.ids:
            args += await self._sealed_anew(keys, turn, field, seq)
        reply = await self._scripts.run("take_steering", keys.pair, *args)
        if reply[0] == b"lost":
            return None
        if reply[0] != b"taken":
            return b"", 0
        if not self._ring.ids and KeyRing.sealed_within(reply[1]):
            raise SealError(
                "a message that joins this turn is sealed, and SESSIONFLEET_ENCRYPTION_KEYS is not set here"
            )
        said = self._ring.open(keys.journal(turn.part), field, reply[1])
        return said, len(json.loads(said))

    async def _sealed_anew(self, keys: SessionKeys, turn: OpenTurn, field: str, seq: int) -> list[Arg]:
        """How many messages there are, their texts for the journal, and each for its event."""
        entries = await self._scripts.read("LRANGE", keys.inbox(turn.part), 0, -1)
        texts = [self._text(keys, entry) for entry in entries]
        stream = keys.events(turn.part)
        events = [
            self._ring.seal(stream, f"{turn.token}-{number}", json.dumps({"text": text}).encode())
            for number, text in enumerate(texts, seq)
        ]
        said = self._ring.seal(keys.journal(turn.part), field, json.dumps(texts).encode())
        return [len(texts), said, *events]

    def _text(self, keys: SessionKeys, entry: bytes) -> str:
        # The script's JSON has the bytes of a sealed text as they are, which are no UTF-8.
        stored = json.loads(entry.decode("latin-1"))
        return self._ring.open(keys.turn(stored["id"]), MESSAGE, stored["text"].encode("latin-1")).decode()
