"""How much of a session's history the index has: one record in the lane `transcript`, written under its lease.

Next to it, `delete_turn.lua` notes turns that were deleted, so that they are removed from the index as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sessions.errors import CorruptRecord
from sessions.store.keys import SessionKeys
from sessions.store.scripts import translated
from sessions.store.sealing import KeyRing
from workers.retrieval.operation_context import FencedFields

_INDEXED: Final = "#indexed"
_GONE: Final = "gone:"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the index has of a session.

    Attributes:
        scope: whose it is in the index; collection: where.
        turns: how many turns of the history, from its beginning on.
        branch: the newest branch of the history whose turns were removed; empty for none.
    """

    scope: str
    collection: str
    turns: int = 0
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """The record, None if the index has nothing; and the turns that were deleted since."""

    progress: Progress | None
    gone: tuple[str, ...] = ()


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
        gone = tuple(name.removeprefix(_GONE) for name in names if name.startswith(_GONE))
        raw = fields.get(_INDEXED.encode())
        return Known(None if raw is None else self._loaded(lane, raw), gone)

    async def write(self, fields: FencedFields, progress: Progress | None, gone: Sequence[str] = ()) -> None:
        """Record what the index has now (None: nothing), and that it does not have these turns.

        Raises:
            LeaseLost: nothing was written.
        """
        record = "" if progress is None else json.dumps(asdict(progress))
        await fields.write("sources", {_INDEXED: record, **{f"{_GONE}{turn}": "" for turn in gone}})

    def _loaded(self, lane: SessionKeys, raw: bytes) -> Progress:
        opened = self._keyring.open(lane.sources, _INDEXED, raw)
        try:
            return Progress(**json.loads(opened))
        except (ValueError, TypeError) as error:
            raise CorruptRecord(
                f"what the index has of session {lane.home.session_id!r} cannot be read: {error!r}"
            ) from error
