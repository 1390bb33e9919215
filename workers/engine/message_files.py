"""The files of the messages that a turn answers: fetched from their URLs once, then files of the session."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from sessions.errors import CorruptRecord, TurnFailed
from sessions.protocol.message import MediaPart, TextPart, dump_parts, file_ids, load_parts
from workers.engine.ports import RunState, StepJournal

FETCHED: Final = "files:message"
"""The journal key of the message's parts after their files were fetched."""
SENT_AGAIN: Final = "files:again"
"""The journal key of the number of past turns whose files the model gets again."""

Parts = Sequence[TextPart | MediaPart]


async def fetched_parts(parts: Parts, key: str, journal: StepJournal, state: RunState) -> Parts:
    """The parts with every file in the session. A replay gets the same files, whatever their URLs say by then.

    Raises:
        TurnFailed: a file cannot be fetched.
    """
    if not any(isinstance(part, MediaPart) and not part.file_id for part in parts):
        return parts
    if (recorded := journal.lookup(key)) is not None:
        return load_parts(recorded)
    if state.files is None:
        raise TurnFailed("this worker cannot fetch the files of a message")
    here = [await state.files.fetch(p) if isinstance(p, MediaPart) and not p.file_id else p for p in parts]
    await journal.record(key, dump_parts(here), files=file_ids(here))
    return here


def recorded_parts(parts: Parts, key: str, steps: Mapping[str, bytes]) -> Parts:
    """The parts as far as this journal knows them: a file that was not fetched is left out."""
    known = load_parts(steps[key]) if key in steps else parts
    return [part for part in known if isinstance(part, TextPart) or part.file_id]


async def turns_sent_again(setting: int, past: int, journal: StepJournal) -> int:
    """The files of how many past turns are sent again: as this turn's first attempt had it.

    Notes take the place of the files of several turns together, so that most requests begin with the one before them.

    Args:
        setting: of at least so many turns, and of less than twice as many.
        past: how many turns the window has.
    """
    if (recorded := journal.lookup(SENT_AGAIN)) is not None:
        return int(json.loads(recorded))
    step = max(1, setting)
    again = past - max(0, (past - setting) // step * step)
    await journal.record(SENT_AGAIN, json.dumps(again).encode())
    return again


def steering_message(entry: object) -> tuple[str, Parts]:
    """Text and parts of a journalled steering message.

    Raises:
        CorruptRecord: it is neither a text nor an object with both.
    """
    if isinstance(entry, str):
        return entry, ()
    try:
        return entry["text"], load_parts(entry["parts"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptRecord(f"a message that joined the turn cannot be read: {error!r}") from error
