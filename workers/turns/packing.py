"""Packs the oldest entries of a session's history into segments, after a turn of it has ended and in the background."""

from __future__ import annotations

import asyncio

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError, SealError
from sessions.store.keys import SEGMENTS, SessionKeys
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.segments import SEGMENT_ENTRIES, Segments

_log = get_logger(__name__)


class HistoryPacking:
    """One per worker process; its coroutines run on the process's loop."""

    def __init__(self, settings: Settings, scripts: ScriptRunner) -> None:
        self._scripts = scripts
        self._segments = Segments(scripts, KeyRing.of(settings))
        self._wanted = {"on": True, "off": False, "auto": None}[settings.history_segments]
        self._running: dict[str, asyncio.Task[None]] = {}

    def after(self, keys: SessionKeys, turn: OpenTurn) -> None:
        """Start packing in the background, if the turn's window began far enough behind what is packed already."""
        if self._wanted is False or keys.ref in self._running or _older_than_window(turn) < SEGMENT_ENTRIES:
            return
        self._running[keys.ref] = task = asyncio.create_task(self._pack(keys))
        task.add_done_callback(lambda _: self._running.pop(keys.ref, None))

    async def _pack(self, keys: SessionKeys) -> None:
        try:
            if self._wanted is None:
                self._wanted = bool(await self._scripts.read("EXISTS", SEGMENTS))
            if self._wanted:
                await self._segments.pack(keys)
        except (BackendError, SealError) as error:  # the entries stay as they are; the next turn's end tries it again
            _log.warning("history_not_packed", session=keys.ref, error=str(error))


def _older_than_window(turn: OpenTurn) -> int:
    """How many entries were before the window that the turn saw, and not in segments."""
    inputs = turn.journal.get("inputs")
    if inputs is None:  # it could not be decrypted
        return 0
    upto, turns = inputs.split(b":")[:2]
    return int(upto) - int(turns) - turn.packed
