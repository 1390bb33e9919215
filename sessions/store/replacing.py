"""A turn that is to take another one's place: what the submission leaves open is looked up in the replaced turn."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from sessions.errors import TurnNotFound
from sessions.protocol.agent import AgentConfig
from sessions.protocol.message import file_ids, parts_of_content, text_of
from sessions.protocol.turn import TurnRequest
from sessions.store.history import HistoryEntry
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.submission import Place, Submission
from sessions.store.turn_fields import REQUEST

LAST: Final = "last"
"""Stands, in the request that a repeat must equal, for the turn that was the last one when the request was made."""
_CONTENT: Final = ("message", "parts")
"""The fields of a request that are what the user sent."""


async def resolved(scripts: ScriptRunner, keyring: KeyRing, keys: SessionKeys, submission: Submission) -> Submission:
    """The submission with the place of the turn that it replaces, and that turn's message and agent if it wants them.

    If the history does not have the turn, the script that accepts turns decides: a repeat under an idempotency key is
    still the turn that the first one made.

    Raises:
        CorruptRecord, SealError: the replaced turn cannot be read. BackendError: the store did not answer.
    """
    wanted = submission.replacement
    if wanted is None:
        return submission
    named = LAST if wanted.turn is None else keys.public_id(wanted.turn)
    asked = submission.to_compare.model_copy(update={"replaces": named})
    found = await HistoryStore(scripts, keyring).find(keys, wanted.turn)
    if (entry := found.entry) is None:
        return replace(submission, asked=asked, place=Place("", -1, found.version))
    known: dict[str, Any] = {"replaces": keys.public_id(entry.turn)}
    if wanted.same_message:
        known |= await _content(scripts, keyring, keys, entry)
        if wanted.same_sender:
            submission = replace(submission, sender=entry.sender)
    if wanted.same_agent:
        known["agent"] = entry.agent
        submission = replace(submission, agent=AgentConfig(name=entry.agent), config=b"")
    request = asked.model_copy(update=known)
    return replace(submission, asked=asked, request=request, place=Place(entry.turn, found.at, found.version))


async def _content(scripts: ScriptRunner, keyring: KeyRing, keys: SessionKeys, entry: HistoryEntry) -> dict[str, Any]:
    """What the user sent: from the turn's record as it was, or, after the record's time, from the history."""
    record = keys.turn(entry.turn)
    raw = await scripts.read("HGET", record, REQUEST)
    if raw is None:
        return _first_prompt(keys, entry)
    request = TurnRequest.model_validate_json(keyring.open(record, REQUEST, raw))
    return {field: getattr(request, field) for field in _CONTENT}


def _first_prompt(keys: SessionKeys, entry: HistoryEntry) -> dict[str, Any]:
    for message in json.loads(entry.messages):
        for part in message["parts"]:
            if part["part_kind"] == "user-prompt":
                parts = parts_of_content(part["content"])
                return {"message": text_of(parts), "parts": parts if file_ids(parts) else ()}
    raise TurnNotFound(
        f"turn {keys.public_id(entry.turn)!r} has no message that could be sent again: give a new one with message="
    )
