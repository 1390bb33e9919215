"""Files of sessions: our own formats, those of other libraries (written by those libraries), and damaged ones."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from sessions.errors import BadRequest, InvalidExport
from sessions.protocol.message import MediaPart, parts_of_content
from sessions.transfer.conversation import Conversation, LeftOut
from sessions.transfer.folder import FolderWriter, folder_name
from sessions.transfer.portable import PortableWriter, read_lines
from sessions.transfer.records import (
    AgentRecord,
    CheckpointRecord,
    DocumentRecord,
    End,
    FilePiece,
    FileRecord,
    MemoryRecord,
    PassageRecord,
    PastTurn,
    Record,
    SessionHeader,
    StateRecord,
    checked_sequence,
    dump_record,
    load_record,
)
from sessions.transfer.sources import Source, inspected, open_source
from sessions.transfer.texts import text_of
from tests.support.make_foreign_sessions import (
    ANSWER,
    ARGS,
    CALL_ID,
    FOREIGN,
    QUESTION,
    RESULT,
    THANKS,
    WELCOME,
    make_all,
)
from tests.support.servers import Server
from workers.engine.ports import PastTurn as TurnOfHistory
from workers.engine.transcript import load_history

THOUGHT = "The user wants the weather."


# --- the files of other libraries -----------------------------------------------------------------------------


def turns_of(source: Source) -> list[PastTurn]:
    return [record for record in source.records() if isinstance(record, PastTurn)]


def as_a_worker_reads(turns: Iterable[PastTurn], agent: str) -> list[ModelMessage]:
    """The messages as the engine loads them for the next turn."""
    past = [TurnOfHistory(turn.agent, json.dumps(turn.messages).encode(), turn.incomplete) for turn in turns]
    return load_history(past, agent)


@pytest.mark.parametrize(
    ("name", "agent", "user", "session_id", "thinks"),
    [
        ("openai_agents.sqlite", "Assistant", None, "weather-1", True),
        ("praisonai.json", "Clerk", "alice", "praisonai", False),
        ("google_adk.sqlite", "clerk", "alice", "weather-1", True),
        ("google_adk_light.sqlite", "clerk", "alice", "weather-1", True),
        ("pydantic_ai.json", "Assistant", None, None, True),
    ],
)
def test_the_conversation_of_another_library_is_read(
    name: str, agent: str, user: str | None, session_id: str | None, thinks: bool
) -> None:
    """Two turns; the first with a call of a tool and its result, in the form that the engine gives to a model."""
    wanted = "weather-1" if name == "openai_agents.sqlite" else None
    source = open_source(FOREIGN / name, from_session=wanted)
    header, _ = inspected(source)
    assert (header.session_id, header.user_id) == (session_id, user)
    turns = turns_of(source)
    assert [(turn.agent, turn.count, turn.incomplete) for turn in turns] == [(agent, 2, ""), (agent, 2, "")]
    assert all(turn.at_ms > 1_700_000_000_000 for turn in turns)
    parts = [part for message in as_a_worker_reads(turns, agent) for part in message.parts]
    assert [part.content for part in parts if isinstance(part, UserPromptPart)] == [QUESTION, THANKS]
    assert [part.content for part in parts if isinstance(part, TextPart)] == [ANSWER, WELCOME]
    assert [part.content for part in parts if isinstance(part, ThinkingPart)] == ([THOUGHT] if thinks else [])
    (call,) = (part for part in parts if isinstance(part, ToolCallPart))
    (returned,) = (part for part in parts if isinstance(part, ToolReturnPart))
    assert (call.tool_name, call.tool_call_id, call.args_as_dict()) == ("get_weather", CALL_ID, ARGS)
    assert (returned.tool_name, returned.tool_call_id) == ("get_weather", CALL_ID)
    content = returned.content
    assert (json.loads(content) if isinstance(content, str) else content) == RESULT


def test_the_state_of_an_adk_session_is_read_and_that_of_its_user_reported() -> None:
    """ADK keeps the state of users and applications in tables of their own."""
    source = open_source(FOREIGN / "google_adk.sqlite")
    state = {record.name: record.value for record in source.records() if isinstance(record, StateRecord)}
    assert state == {"step": 1, "last_city": "Paris"}
    assert [line.split(",")[0] for line in source.left_out.lines] == ["the state of the user", "the state of the app"]


def test_one_of_several_sessions_must_be_named() -> None:
    """The file has two sessions; guessing would import the wrong person's."""
    with pytest.raises(BadRequest, match=r"has 2 sessions \('weather-1', 'weather-2'\).*--from-session"):
        inspected(open_source(FOREIGN / "openai_agents.sqlite"))
    with pytest.raises(BadRequest, match=r"no session 'weather-3'; it has 'weather-1'"):
        inspected(open_source(FOREIGN / "openai_agents.sqlite", from_session="weather-3"))


def test_a_question_without_an_answer_is_a_turn_that_did_not_complete() -> None:
    """The model is told so, and some providers refuse a prompt after a prompt."""
    (turn,) = turns_of(open_source(FOREIGN / "openai_agents.sqlite", from_session="weather-2"))
    assert (turn.incomplete, turn.count) == ("failed", 1)


def test_the_name_for_agents_can_be_chosen() -> None:
    """A session of OpenAI's SDK does not say which agent spoke."""
    source = open_source(FOREIGN / "openai_agents.sqlite", from_session="weather-1", agent="Clerk")
    assert {turn.agent for turn in turns_of(source)} == {"Clerk"}


def test_calls_and_results_without_each_other_are_left_out_and_reported() -> None:
    """Providers refuse a call without its result, and a result without its call."""
    left_out = LeftOut()
    conversation = Conversation("x", left_out, "A")
    turns = list(conversation.user("one", 1000))
    conversation.call("lost", "c1", {}, 2000)
    conversation.result("c2", "nobody asked", 2000)
    conversation.assistant("done", 3000)
    turns += [*conversation.user("two", 4000), *conversation.end()]
    assert [part["part_kind"] for message in turns[0].messages for part in message["parts"]] == ["user-prompt", "text"]
    assert turns[1].incomplete == "failed"
    assert set(left_out.lines) == {"a call of a tool that has no result (lost)", "a tool's result without its call"}


def test_files_in_messages_become_files_of_the_session(tmp_path: Path) -> None:
    """The history only refers to them; each of the libraries writes them in its own way."""
    photo = b"\xfb\xff photo" * 50_000
    plain, of_urls = base64.b64encode(photo).decode(), base64.urlsafe_b64encode(photo).decode()
    shutil.copy(FOREIGN / "openai_agents.sqlite", tmp_path / "openai.sqlite")
    item = {"role": "user", "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{plain}"}]}
    with sqlite3.connect(tmp_path / "openai.sqlite") as database:
        insert = "INSERT INTO agent_messages (session_id, message_data) VALUES ('weather-2', ?)"
        database.execute(insert, (json.dumps(item),))
    database.close()
    shutil.copy(FOREIGN / "google_adk.sqlite", tmp_path / "adk.sqlite")
    with sqlite3.connect(tmp_path / "adk.sqlite") as database:
        (data,) = database.execute("SELECT event_data FROM events ORDER BY timestamp LIMIT 1").fetchone()
        event = json.loads(data)
        event["content"]["parts"].append({"inline_data": {"data": of_urls, "mime_type": "image/png"}})
        database.execute("UPDATE events SET event_data = ? WHERE event_data = ?", (json.dumps(event), data))
    database.close()
    content = ["Look", BinaryContent(photo, media_type="image/png")]
    messages = [ModelRequest(parts=[UserPromptPart(content)]), ModelResponse(parts=[TextPart("A heron")])]
    (tmp_path / "messages.json").write_bytes(ModelMessagesTypeAdapter.dump_json(messages))
    for name, wanted in (("openai.sqlite", "weather-2"), ("adk.sqlite", None), ("messages.json", None)):
        source = open_source(tmp_path / name, from_session=wanted)
        records = list(checked_sequence(source.records(), name))
        (file,) = (record for record in records if isinstance(record, FileRecord))
        pieces = [record.data for record in records if isinstance(record, FilePiece)]
        assert (b"".join(pieces), len(pieces), file.media_type) == (photo, 2, "image/png")
        shown = [
            part for turn in turns_of(source) for part in parts_of_content(turn.messages[0]["parts"][-1]["content"])
        ]
        assert any(isinstance(part, MediaPart) and part.file_id == file.id for part in shown), name


# --- our own formats ------------------------------------------------------------------------------------------

MESSAGES = [
    {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Hello"}]},
    {"kind": "response", "parts": [{"part_kind": "text", "content": "Hello, Alice!"}]},
]
RECORDS: list[Record] = [
    SessionHeader(session_id="a/b", user_id="alice", title="Hello", metadata={"tier": 1}, turns=1),
    AgentRecord(name="Clerk", config={"name": "Clerk"}),
    StateRecord(name="step", value=[1, None, "half \ud83d of a pair"]),
    CheckpointRecord(number=3, at_ms=1, state={"step": 0}, agents={}, history=1, messages=2),
    MemoryRecord(id="0" * 32, text="likes tea", kind="long", created_ms=1),
    FileRecord(id="a" * 64, name="photo.png", media_type="image/png", size=5, added_ms=1),
    FilePiece.of(b"\x00\xff123"),
    PastTurn(turn="1" * 32, agent="Clerk", at_ms=1, count=2, messages=MESSAGES),
    DocumentRecord(source="x.txt", collection="c"),
    PassageRecord(number=0, text="Policy", start=0, end=6),
]
COUNTS = {record.type: 1 for record in RECORDS if not isinstance(record, FilePiece)}


def written(path: Path, records: list[Record]) -> Path:
    with PortableWriter(path) if path.suffix else FolderWriter(path) as writer:
        writer.write([*records, End(counts=COUNTS)])
        writer.finish()
    return path


def shown(records: Iterable[Record]) -> list[str]:
    return sorted(json.dumps(record.model_dump(mode="json")) for record in records)


@pytest.mark.parametrize("name", ["chat.jsonl", "chat"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    """The file and the folder contain the same records; only the owner of the process can read them."""
    path = written(tmp_path / name, RECORDS)
    assert shown(open_source(path).records()) == shown([*RECORDS, End(counts=COUNTS)])
    assert path.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_value_that_is_null_is_kept() -> None:
    """In state, null is a value."""
    record = StateRecord(name="nothing", value=None)
    assert load_record(dump_record(record), "line 1") == record


def test_the_folder_has_the_documented_layout(tmp_path: Path) -> None:
    """`<session id>/state.json`, `memory/` and `knowledge/`, even if they are empty."""
    path = written(tmp_path / folder_name("a/b"), RECORDS)
    assert path.name == "a%2Fb"
    assert {"state.json", "memory", "knowledge"} <= {entry.name for entry in path.iterdir()}
    state = json.loads((path / "state.json").read_text())
    assert (state["session_id"], state["state"], state["agents"]) == (
        "a/b",
        {"step": [1, None, "half \ud83d of a pair"]},
        {"Clerk": {"name": "Clerk"}},
    )
    assert shown(open_source(path / "state.json").records()) == shown(open_source(tmp_path).records())


@pytest.mark.parametrize("session_id", [".", "..", "a/../b", "ü" * 256, "~"])
def test_no_id_reaches_out_of_the_folder(tmp_path: Path, session_id: str) -> None:
    """Ids may contain slashes and dots, and be long."""
    path = (tmp_path / folder_name(session_id)).resolve()
    assert path.parent == tmp_path.resolve()
    path.mkdir()


def test_nothing_is_overwritten_that_is_not_an_export(tmp_path: Path) -> None:
    """`.sessions/` also has the folders of the embedded fleet."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker.log").write_text("x")
    with pytest.raises(InvalidExport, match="not an export of a session: choose another folder"):
        FolderWriter(tmp_path / "logs")
    path = written(tmp_path / "chat", RECORDS)
    written(path, RECORDS)  # an earlier export is replaced


def test_a_writer_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    """Half an export must not look like one."""
    for writer in (PortableWriter(tmp_path / "chat.jsonl"), FolderWriter(tmp_path / "chat")):
        with writer:
            writer.write(RECORDS)
    assert list(tmp_path.iterdir()) == []


def damaged(tmp_path: Path, change: str) -> Path:
    lines = written(tmp_path / "chat.jsonl", RECORDS).read_bytes().splitlines(keepends=True)
    match change:
        case "cut in a line":
            lines[-1] = lines[-1][:-5]
        case "cut between lines":
            lines.pop()
        case "a line is missing":
            del lines[2]
        case "not JSON":
            lines[3] = b"{}x\n"
        case "unknown record":
            lines[3] = b'{"type":"hologram"}\n'
        case "newer version":
            lines[0] = lines[0].replace(b'"version":1', b'"version":9')
        case "bad message":
            lines[7] = lines[7].replace(b'"part_kind":"text"', b'"part_kind":"song"')
        case "two sessions":
            lines += lines
    (tmp_path / "chat.jsonl").write_bytes(b"".join(lines))
    return tmp_path / "chat.jsonl"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cut in a line", "line 11: the export is not complete: the line has no end"),
        ("cut between lines", "chat.jsonl: the export is not complete: it was cut off after"),
        ("a line is missing", "chat.jsonl: records are missing"),
        ("not JSON", "chat.jsonl, line 4: Invalid JSON"),
        ("unknown record", "chat.jsonl, line 4: Input tag 'hologram'"),
        ("newer version", "line 1: the export has version 9, and this Sessionfleet reads version 1: upgrade"),
        ("bad message", "chat.jsonl, line 8, message 1, part 0: `part_kind` 'song' is not known here"),
        ("two sessions", "chat.jsonl: there is more than one session"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path: Path, change: str, message: str) -> None:
    """Each names the line, and none quotes what people wrote."""
    with pytest.raises(InvalidExport) as refused:
        list(read_lines(damaged(tmp_path, change)))
    assert message in str(refused.value)
    assert "Alice" not in str(refused.value)


# --- damaged and unknown files --------------------------------------------------------------------------------


def test_a_file_of_an_unknown_format_says_what_can_be_imported(tmp_path: Path) -> None:
    """Whatever the file is."""
    for number, content in enumerate((b"", b"hello", b"{}", b"[]", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000)):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        with pytest.raises(InvalidExport, match="What can be imported: an export of Sessionfleet"):
            open_source(path)
    with sqlite3.connect(tmp_path / "other.sqlite") as database:
        database.execute("CREATE TABLE songs (title TEXT)")
    database.close()
    with pytest.raises(InvalidExport, match=r"tables \['songs'\]. What can be imported"):
        open_source(tmp_path / "other.sqlite")
    with pytest.raises(BadRequest, match="neither a file nor a folder"):
        open_source(tmp_path / "missing.json")


def test_a_damaged_file_of_another_library_names_the_place(tmp_path: Path) -> None:
    """The message, event or row that cannot be read."""
    for name, table, column in (
        ("openai_agents.sqlite", "agent_messages", "message_data"),
        ("google_adk.sqlite", "events", "event_data"),
    ):
        path = tmp_path / name
        shutil.copy(FOREIGN / name, path)
        with sqlite3.connect(path) as database:
            database.execute(f"UPDATE {table} SET {column} = '{{\"half\": '")
        database.close()
        with pytest.raises(InvalidExport, match=rf"{name}, (message 1|event '[0-9a-f-]+'): it is not"):
            inspected(open_source(path, from_session="weather-1"))
    data = json.loads((FOREIGN / "praisonai.json").read_text())
    data["messages"][1]["tool_calls"] = [{"id": 1}]
    (tmp_path / "praisonai.json").write_text(json.dumps(data))
    with pytest.raises(InvalidExport, match=r"praisonai.json, message 1: it is not as PraisonAI writes it"):
        inspected(open_source(tmp_path / "praisonai.json"))
    messages = json.loads((FOREIGN / "pydantic_ai.json").read_text())
    del messages[2]["parts"][0]["tool_name"]
    (tmp_path / "messages.json").write_text(json.dumps(messages))
    with pytest.raises(InvalidExport, match=r"messages.json, message 2, part 0: a tool-return needs `tool_name`"):
        inspected(open_source(tmp_path / "messages.json"))


def test_a_truncated_database_is_refused(tmp_path: Path) -> None:
    """SQLite's own message says that it is malformed."""
    (tmp_path / "half.sqlite").write_bytes((FOREIGN / "openai_agents.sqlite").read_bytes()[:9000])
    with pytest.raises(InvalidExport, match=r"half.sqlite: SQLite cannot read it"):
        inspected(open_source(tmp_path / "half.sqlite", from_session="weather-1"))


def test_pickled_events_of_old_adk_versions_are_refused(tmp_path: Path) -> None:
    """Loading a pickle would run whatever is in it."""
    with sqlite3.connect(tmp_path / "old.sqlite") as database:
        database.execute("CREATE TABLE sessions (app_name, user_id, id, state)")
        database.execute("CREATE TABLE events (id, actions BLOB)")
    database.close()
    with pytest.raises(InvalidExport, match="events are pickles: migrate it"):
        open_source(tmp_path / "old.sqlite")


# --- documents ------------------------------------------------------------------------------------------------


def test_a_documents_text_is_put_together_from_its_passages() -> None:
    """Passages overlap, and between two sections there is an empty line that no passage contains."""
    text = "First part of it.\n\nSecond part."
    places = [(0, 10), (6, 17), (19, 31)]
    passages = [PassageRecord(number=n, text=text[a:b], start=a, end=b) for n, (a, b) in enumerate(places)]
    assert text_of(reversed(passages)) == text


def test_messages_that_workers_write_pass_the_check() -> None:
    """An export of today's messages must be importable."""
    written_by_workers = json.loads(
        ModelMessagesTypeAdapter.dump_json(ModelMessagesTypeAdapter.validate_python(MESSAGES))
    )
    PastTurn(turn="1" * 32, agent="A", at_ms=0, count=2, messages=written_by_workers)


# --- the libraries themselves ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("FOREIGN_SESSIONS"), reason="installs other libraries: `make foreign-sessions`")
def test_the_libraries_still_write_what_is_read_here(new_server: Server, tmp_path: Path) -> None:
    """Writes the files of `tests/foreign/` again, each with its library from the registry, and reads them."""
    written = make_all(tmp_path / "foreign", tmp_path / "environments", new_server.url)
    assert written == json.loads((FOREIGN / "versions.json").read_text())
    for path in sorted((tmp_path / "foreign").iterdir()):
        if path.name not in ("versions.json", "openai_agents.redis.json"):
            wanted = "weather-1" if path.name.startswith("openai") else None
            turns = turns_of(open_source(path, from_session=wanted))
            assert [turn.count for turn in turns] == [2, 2], path.name
