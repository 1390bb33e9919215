"""How much of a session's history the index has: one record in the lane `transcript`, written under its lease.

Next to it, scripts note what leaves the history without a branch (`lib/transcript.lua`): turns that were deleted, and
positions from which the history was cut off or written anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sessions.errors import CorruptRecord
from sessions.store.keys import SessionKeys
from sessions.store.scripts import translated
from sessions.store.sealing import KeyRing
from workers.retrieval.operation_context import FencedFields

_INDEXED: Final = "#indexed"
_GONE: Final = "gone:"
_CUT: Final = "cut:"
_RECENT: Final = 32


@dataclass(frozen=True, slots=True)
class Progress:
    """What the index has of a session.

    Attributes:
        scope: whose it is in the index; collection: where.
        turns: how many turns of the history, from its beginning on.
        branch: the newest branch of the history whose turns were removed; empty for none.
        recent: the last ones of these turns, to remove them if the end of the history is cut off.
    """

    scope: str
    collection: str
    turns: int = 0
    branch: str = ""
    recent: tuple[str, ...] = ()

    def extended(self, turn: str) -> Progress:
        """With one more turn."""
        return replace(self, turns=self.turns + 1, recent=(*self.recent, turn)[-_RECENT:])

    def since(self, at: int) -> tuple[str, ...] | None:
        """The turns from this position on; None if they are not known any more."""
        first = self.turns - len(self.recent)
        return self.recent[max(0, at - first) :] if at >= first else None

    def shortened(self, turns: int) -> Progress:
        """With the first ones only."""
        return replace(self, turns=turns, recent=self.recent[: max(0, len(self.recent) - (self.turns - turns))])


@dataclass(frozen=True, slots=True)
class Known:
    """The record, None if the index has nothing; and what has left the history since.

    Attributes:
        gone: turns that were deleted; cuts: the positions from which the history was cut off.
        notes: the fields of the lane that say so.
    """

    progress: Progress | None
    gone: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class ProgressRecords:
    """Reads the records of lanes; writes them through an operation's `FencedFields`, which encrypt them."""

    def __init__(self, store: Any, keyring: KeyRing) -> None:
        self._store = store
        self._keyring = keyring

    async def read(self, lane: SessionKeys) -> Known:
        """What is known of a lane's session.

        Raises:
            CorruptRecord, SealError: the record cannot be read.
        """
        with translated():
            fields = await self._store.hgetall(lane.sources)
        names = [name.decode() for name in fields]
        raw = fields.get(_INDEXED.encode())
        return Known(
            progress=None if raw is None else self._loaded(lane, raw),
            gone=tuple(name.removeprefix(_GONE) for name in names if name.startswith(_GONE)),
            cuts=tuple(int(fields[name.encode()]) for name in names if name.startswith(_CUT)),
            notes=tuple(name for name in names if name != _INDEXED),
        )

    async def write(self, fields: FencedFields, progress: Progress | None, notes: Sequence[str] = ()) -> None:
        """Record what the index has now (None: nothing), and remove notes that it has followed.

        Raises:
            LeaseLost: nothing was written.
        """
        record = "" if progress is None else json.dumps(asdict(progress))
        await fields.write("sources", {_INDEXED: record, **dict.fromkeys(notes, "")})

    def _loaded(self, lane: SessionKeys, raw: bytes) -> Progress:
        opened = self._keyring.open(lane.sources, _INDEXED, raw)
        try:
            stored = json.loads(opened)
            return Progress(**{**stored, "recent": tuple(stored["recent"])})
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptRecord(
                f"what the index has of session {lane.home.session_id!r} cannot be read: {error!r}"
            ) from error
