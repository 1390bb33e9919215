"""Google ADK's sessions in SQLite, as `DatabaseSessionService` (schema 1) and `SqliteSessionService` write them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sessions.errors import InvalidExport
from sessions.transfer.conversation import Conversation, LeftOut
from sessions.transfer.media import binary
from sessions.transfer.records import PastTurn, Record, SessionHeader, StateRecord
from sessions.transfer.sqlite import chosen, readable

TABLES: Final = {"sessions", "events"}
COLUMN: Final = "event_data"
_SESSIONS: Final = "SELECT app_name, user_id, id, state FROM sessions ORDER BY app_name, user_id, id"
_EVENTS: Final = (
    "SELECT id, event_data FROM events WHERE app_name = ? AND user_id = ? AND session_id = ? ORDER BY timestamp, rowid"
)


def read_adk(path: Path, wanted: str | None, left_out: LeftOut, agent: str) -> Iterator[Record]:
    """One session of the file as records. A session is named by its id, or by `<app>/<user>/<id>`.

    Raises:
        InvalidExport: the file or an event is damaged. BadRequest: it is not clear which session is meant.
    """
    with readable(path) as database:
        rows = {"/".join(row[:3]): row for row in database.execute(_SESSIONS)}
        app, user, session_id, state = rows[_named(rows, wanted, path.name)]
        yield SessionHeader(session_id=session_id, user_id=user)
        yield from _state(state, f"{path.name}, state of session {session_id!r}")
        _report_wide_state(database, app, user, left_out)
        conversation = Conversation(f"adk\0{app}\0{user}\0{session_id}", left_out, agent)
        for event_id, data in database.execute(_EVENTS, (app, user, session_id)):
            try:
                yield from read_event(conversation, json.loads(data), left_out)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                place = f"{path.name}, event {event_id!r}"
                raise InvalidExport(f"{place}: it is not an event of Google ADK: {error!r}") from None
        yield from conversation.end()


def _named(rows: dict[str, Any], wanted: str | None, name: str) -> str:
    ending = [full for full, row in rows.items() if row[2] == wanted]
    return chosen(list(rows), ending[0] if len(ending) == 1 else wanted, name)


def _state(raw: str, place: str) -> Iterator[StateRecord]:
    try:
        for name, value in json.loads(raw).items():
            yield StateRecord(name=name, value=value)
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidExport(f"{place}: it is not a JSON object: {error!r}") from None


def _report_wide_state(database: sqlite3.Connection, app: str, user: str, left_out: LeftOut) -> None:
    of_user = database.execute("SELECT state FROM user_states WHERE app_name = ? AND user_id = ?", (app, user))
    of_app = database.execute("SELECT state FROM app_states WHERE app_name = ?", (app,))
    for scope, found in (("user", of_user), ("app", of_app)):
        if any(row[0] not in ("{}", "null", None) for row in found):
            left_out.add(f"the state of the {scope}, which is not the session's: set it with set_state('{scope}:...')")


def read_event(conversation: Conversation, event: dict[str, Any], left_out: LeftOut) -> Iterator[PastTurn]:
    """Take an event, as JSON, into a conversation; yields the turn before it, if that has ended.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not an event.
    """
    at_ms = round(float(event.get("timestamp") or 0) * 1000)
    _report_actions(event.get("actions") or {}, left_out)
    if event.get("partial"):
        return
    parts = (event.get("content") or {}).get("parts") or []
    if event["author"] == "user" and not any("function_response" in part for part in parts):
        yield from conversation.user(_said(parts, left_out), at_ms)
        return
    author = None if event["author"] == "user" else event["author"]
    for part in parts:
        _read_part(conversation, part, at_ms, author, left_out)


def _report_actions(actions: dict[str, Any], left_out: LeftOut) -> None:
    for name, what in (
        ("artifact_delta", "artifacts, which ADK keeps outside of the file"),
        ("rewind_before_invocation_id", "a rewind: the turns before it are imported as they were"),
        ("compaction", "ADK's compactions"),
    ):
        if actions.get(name):
            left_out.add(what)


def _said(parts: list[dict[str, Any]], left_out: LeftOut) -> str | list[Any]:
    said: list[Any] = []
    for part in parts:
        if "text" in part:
            said.append(part["text"])
        elif "file_data" in part:
            said.append(_linked(part["file_data"]))
        elif inline := part.get("inline_data"):
            said.append({**binary(inline["data"], inline["mime_type"]), "identifier": inline.get("display_name")})
        else:
            said.append(_not_imported(part, left_out))
    return "\n".join(said) if all(isinstance(item, str) for item in said) else said


def _linked(file: dict[str, Any]) -> dict[str, Any] | str:
    kind = {"image": "image-url", "audio": "audio-url", "video": "video-url"}.get(
        str(file.get("mime_type")).partition("/")[0], "document-url"
    )
    url = str(file["file_uri"])
    return {"kind": kind, "url": url} if url.startswith(("http://", "https://")) else f"[{url}]"


def _not_imported(part: dict[str, Any], left_out: LeftOut) -> str:
    kind = next((name for name, value in part.items() if value is not None), "part")
    left_out.add(f"the bytes of media in messages ({kind})" if kind == "inline_data" else f"parts of the type {kind!r}")
    return f"[{kind}, which was not imported]"


def _read_part(
    conversation: Conversation, part: dict[str, Any], at_ms: int, author: str | None, left_out: LeftOut
) -> None:
    if call := part.get("function_call"):
        call_id = call.get("id") or f"{call['name']}-{at_ms}"
        conversation.call(call["name"], call_id, call.get("args") or {}, at_ms, agent=author)
    elif returned := part.get("function_response"):
        call_id = returned.get("id") or returned["name"]
        conversation.result(call_id, returned.get("response"), at_ms)
    elif "text" in part and part.get("thought"):
        conversation.thought(part["text"], at_ms, agent=author)
    elif "text" in part:
        conversation.assistant(part["text"], at_ms, agent=author)
    else:
        conversation.assistant(_not_imported(part, left_out), at_ms, agent=author)
