"""Exports and imports on real servers: a session is there again, in another deployment and behind a gateway."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from sessions import Image, Session
from sessions.errors import (
    BadRequest,
    InvalidExport,
    NotFound,
    SessionExists,
    SessionOwnerError,
)
from sessions.store.files import FileContent
from sessions.transfer.records import PastTurn
from sessions.transfer.sources import open_source
from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet, running_fleet
from tests.support.gateway import GatewayProcess, ask, made_key
from tests.support.make_foreign_sessions import ANSWER, CALL_ID, FOREIGN, QUESTION, THANKS, WELCOME
from tests.support.servers import Server, running

KEYS = f"one:{base64.b64encode(bytes(range(32))).decode()}"
POLICY = "Trains are booked in second class. " * 60


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Another deployment: its own server, encrypted."""
    env = {"SESSIONFLEET_ENCRYPTION_KEYS": KEYS}
    with (
        running(Server(tmp_path_factory.mktemp("other-server"))) as server,
        running_fleet(tmp_path_factory.mktemp("other"), server, env, ("other1",)) as fleet,
    ):
        yield fleet


def sid() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def keys_of(fleet: Fleet, session: Session) -> list[bytes]:
    """The keys with the session's id in their name."""
    with fleet.server.client() as client:
        return [key for key in client.scan_iter("sf:v1:*", count=1000) if session.session_id.encode() in key]


def add_file(session: Session, fleet: Fleet, content: bytes) -> str:
    async def add() -> str:
        file = FileContent(BytesIO(content), "photo.png", "image/png")
        await fleet.client.open()
        files = fleet.client.stores.files
        await files.measure(file)
        return (await files.add(session.keys, file, user_id=session.user_id, ttl=None)).id

    return fleet.client.portal.call(add())


def read_file(session: Session, fleet: Fleet, file_id: str) -> bytes:
    return fleet.client.portal.call(fleet.client.stores.files.content(session.keys, file_id))


def full_session(fleet: Fleet, **options: Any) -> tuple[Session, bytes, str]:
    """A session with a part of every kind; with the content and the id of its file."""
    session = fleet.session(sid(), user_id="ann", **options)
    session.Agent("Writer", instructions="write").chat("SAY one")
    session.Agent("Clerk").chat("SAY two")
    session.save_state({"step": 1})
    session.set_state("step", 2)
    session.add_memory("Ann likes green tea", metadata={"said": "once"}, scope="session")
    session.add_knowledge(POLICY.encode(), name="policy.txt", metadata={"year": 2026})
    session.update(title="Travel", metadata={"tier": 1})
    content = os.urandom(600_000)
    return session, content, add_file(session, fleet, content)


def spoken(session: Session) -> list[tuple[str, str, str]]:
    return [(message.role, message.agent, message.text) for message in session.history(1000)]


@pytest.mark.parametrize("name", ["chat.jsonl", "backup"])
def test_a_session_moves_to_another_deployment(fleet: Fleet, other: Fleet, tmp_path: Path, name: str) -> None:
    """Everything is there again, encrypted with the other deployment's keys, and the conversation continues."""
    session, content, file_id = full_session(fleet)
    written = session.export(tmp_path / name)
    assert (written / "state.json").exists() or written.suffix == ".jsonl"
    report = Session.import_from(written, settings=other.settings)
    moved = report.session
    assert (moved.session_id, moved.user_id) == (session.session_id, "ann")
    assert dict(report.counts) == {"turns": 2, "messages": 4, "memories": 1, "files": 1, "documents": 1}
    assert report.left_out == ()
    assert spoken(moved) == spoken(session)
    assert moved.get_state() == {"step": 2}
    (memory,) = moved.list_memory(scope="session")
    assert (memory["text"], memory["metadata"]) == ("Ann likes green tea", {"said": "once"})
    assert moved.search_memory("tea")[0]["text"] == "Ann likes green tea"
    assert "second class" in moved.search_knowledge("Which class do trains have?")[0]["text"]
    assert [(d["source"], d["metadata"]) for d in moved.list_knowledge()] == [("policy.txt", {"year": 2026})]
    (file,) = moved.files()
    assert (file.id == file_id, file.name) == (False, "photo.png")  # keyed: the other deployment is encrypted
    assert read_file(moved, other, file.id) == content
    before, after = session.get_context(), moved.get_context()
    assert after["agents"] == before["agents"]
    assert (after["requests"], after["input_tokens"]) == (before["requests"], before["input_tokens"])
    assert moved.Agent("Writer").chat("SAY three") == "three"
    assert moved.restore_state(1) == {"step": 1}
    assert moved.save_state() == 2
    assert [key for key in keys_of(other, moved) if b":copy:" in key] == []
    moved.delete()
    assert [key for key in keys_of(other, moved) if b":op:" not in key] == []  # those live for a minute


def test_the_model_sees_the_images_of_an_imported_session(fleet: Fleet, other: Fleet, tmp_path: Path) -> None:
    """Messages refer to files by id, and the files come along, encrypted with other keys."""
    session, photo, question = fleet.session(sid()), os.urandom(1000), f"SAY {sid()}"
    session.Agent().chat(["SAY a photo", Image(photo, media_type="image/png")])
    moved = Session.import_from(session.export(tmp_path / "chat.jsonl"), settings=other.settings).session
    moved.Agent().chat(question)
    (line,) = other.ledger("model_started", prompt=question)
    assert line["files"] == [f"image.png image/png {hashlib.sha256(photo).hexdigest()[:8]}"]


def test_what_other_libraries_stored_comes_along(fleet: Fleet, tmp_path: Path) -> None:
    """An entry of their session objects has their own form next to the messages; senders of shared sessions stay."""
    session, native = fleet.session(sid(), user_id="ann"), json.dumps([{"role": "user", "content": "Hi"}])
    session.Agent().chat("SAY hello")
    path = session.export(tmp_path / "chat.jsonl")
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    (turn,) = (line for line in lines if line["type"] == "turn")
    turn.update(adapter="openai_agents", native=native, sender="bob")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    moved = Session.import_from(path, sid(), settings=fleet.settings).session
    (back,) = (r for r in open_source(moved.export(tmp_path / "back.jsonl")).records() if isinstance(r, PastTurn))
    assert (back.adapter, back.sender, json.loads(back.native or "")) == ("openai_agents", "bob", json.loads(native))
    assert [message.text for message in moved.history()] == ["SAY hello", "hello"]


def test_an_exported_session_is_listed_with_its_title(fleet: Fleet, other: Fleet, tmp_path: Path) -> None:
    """The list of sessions reads nothing else than the session's record."""
    session = fleet.session(sid(), user_id=sid())
    session.Agent().chat("SAY hello")
    session.update(title="My travels", metadata={"tier": 1})
    Session.import_from(session.export(tmp_path / "chat.jsonl"), settings=other.settings)
    (found,) = Session.list(user_id=session.user_id, settings=other.settings)
    assert (found.title, dict(found.metadata), found.messages) == ("My travels", {"tier": 1}, 2)


def test_importing_again_changes_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """The same content is recognised; any other session of that id is not touched."""
    session, _, _ = full_session(fleet)
    path, copy_id = session.export(tmp_path / "chat.jsonl"), sid()
    first = Session.import_from(path, copy_id, settings=fleet.settings)
    first.session.Agent().chat("SAY more")
    again = Session.import_from(path, copy_id, settings=fleet.settings)
    assert (first.repeated, again.repeated) == (False, True)
    assert again.session.get_context()["turns"] == 3
    assert len(again.session.list_knowledge()) == 1
    with pytest.raises(SessionExists, match="choose another id"):
        Session.import_from(path, settings=fleet.settings)
    session.set_state("step", 3)
    with pytest.raises(SessionExists, match="choose another id"):
        Session.import_from(session.export(tmp_path / "later.jsonl"), copy_id, settings=fleet.settings)


def test_a_damaged_export_leaves_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """A file whose size is wrong is only found once its pieces were stored: they are removed again."""
    session, _, _ = full_session(fleet)
    path, new_id = session.export(tmp_path / "chat.jsonl"), sid()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line.replace(b'"size":600000', b'"size":600001') for line in lines))
    with pytest.raises(InvalidExport, match=r"photo.png' has 600,000 bytes, and should have 600,001"):
        Session.import_from(path, new_id, settings=fleet.settings)
    with fleet.server.client() as client:
        assert [key for key in client.scan_iter("sf:v1:*") if new_id.encode() in key] == []


def test_only_the_owner_exports_a_session(fleet: Fleet, tmp_path: Path) -> None:
    """Nothing is written for anybody else, and nothing for a session that does not exist."""
    session = fleet.session(sid(), user_id="ann")
    session.Agent().chat("SAY hello")
    with pytest.raises(SessionOwnerError):
        fleet.session(session.session_id, user_id="bob").export(tmp_path)
    with pytest.raises(NotFound):
        fleet.session(session.session_id, user_id="ann", tenant="other").export(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_import_belongs_to_the_user_who_is_named(fleet: Fleet, tmp_path: Path) -> None:
    """The owner in the file counts only if none is named."""
    session = fleet.session(sid(), user_id="ann")
    session.Agent().chat("SAY hello")
    path = session.export(tmp_path / "chat.jsonl")
    moved = Session.import_from(path, sid(), "bob", tenant="second", settings=fleet.settings, ttl=3600).session
    assert moved.get_context()["user_id"] == "bob"
    assert 3500 < (moved.time_to_expiry() or 0) <= 3600
    with pytest.raises(SessionOwnerError):
        fleet.session(moved.session_id, user_id="ann", tenant="second").get_context()
    assert fleet.session(moved.session_id).get_context()["created_at"] is None


def test_a_long_history_is_exported_in_pages(fleet: Fleet, tmp_path: Path) -> None:
    """Progress tells how far it is, and what was imported is the same to the byte."""
    messages = json.loads((FOREIGN / "pydantic_ai.json").read_text()) * 300
    (tmp_path / "messages.json").write_text(json.dumps(messages))
    told: list[tuple[int, int]] = []
    moved = Session.import_from(tmp_path / "messages.json", sid(), settings=fleet.settings).session
    path = moved.export(tmp_path / "long.jsonl", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (600, 600)
    assert len(told) > 10
    assert moved.get_context()["message_count"] == 1200
    copied = Session.import_from(path, sid(), settings=fleet.settings).session
    again = copied.export(tmp_path / "again.jsonl")
    kept = [[line for line in file.read_bytes().splitlines() if b'"type":"turn"' in line] for file in (path, again)]
    assert kept[0] == kept[1]


async def test_the_async_forms_do_the_same(fleet: Fleet, tmp_path: Path) -> None:
    """From an asyncio program, several at a time."""
    session = fleet.session(sid())
    await session.Agent().achat("SAY hello")
    path = await session.aexport(tmp_path / "chat.jsonl")
    imports = [Session.aimport_from(path, sid(), settings=fleet.settings) for _ in range(3)]
    moved = [report.session for report in await asyncio.gather(*imports)]
    assert [len(await each.ahistory()) for each in moved] == [2, 2, 2]


# --- other libraries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai_agents.sqlite", "praisonai.json", "google_adk.sqlite", "pydantic_ai.json"])
def test_a_conversation_of_another_library_continues_here(fleet: Fleet, name: str) -> None:
    """The history has the call of a tool with its result, and the next turn is run with all of it."""
    wanted = "weather-1" if name.startswith("openai") else None
    report = Session.import_from(FOREIGN / name, sid(), from_session=wanted, settings=fleet.settings)
    history = list(report.session.history())
    assert [message.text for message in history if message.role == "user"] == [QUESTION, THANKS]
    assert [message.text for message in history if message.role == "assistant" and message.text] == [ANSWER, WELCOME]
    (call,) = (message for message in history if message.role == "assistant" and message.tool)
    assert (call.tool, call.call_id, call.args) == ("get_weather", CALL_ID, {"city": "Paris"})
    recited = report.session.Agent(history[0].agent).chat("RECITE")  # what the model was given
    assert all(text in recited for text in (QUESTION, ANSWER, THANKS, WELCOME))


def test_a_redis_session_of_openais_sdk_is_imported(fleet: Fleet, new_server: Server) -> None:
    """From its keys, as that library wrote them; the address has no password in errors."""
    with new_server.client() as client:
        for key, value in json.loads((FOREIGN / "openai_agents.redis.json").read_text()).items():
            if isinstance(value, dict):
                client.hset(key, mapping=value)
            elif isinstance(value, list):
                client.rpush(key, *value)
            else:
                client.set(key, value)
    report = Session.import_from(new_server.url, sid(), from_session="weather-1", settings=fleet.settings)
    assert [message.text for message in report.session.history() if message.role == "user"] == [QUESTION, THANKS]
    with pytest.raises(BadRequest, match=r"no session 'weather-9' of the OpenAI Agents SDK"):
        Session.import_from(new_server.url, from_session="weather-9", settings=fleet.settings)
    with pytest.raises(BadRequest, match=r"--from-session"):
        Session.import_from(new_server.url, settings=fleet.settings)
    with pytest.raises(BadRequest) as refused:
        Session.import_from("redis://u:hunter2@127.0.0.1:1/0", from_session="x", settings=fleet.settings)
    assert "hunter2" not in str(refused.value)


# --- a gateway ------------------------------------------------------------------------------------------------


def test_a_remote_session_is_exported_and_imported(
    gateway_process: GatewayProcess, fleet: Fleet, tmp_path: Path
) -> None:
    """Over REST, with the same file; files of other libraries are read in the client."""
    session, content, file_id = full_session(fleet)
    url = f"{gateway_process.url}/agent"
    remote = Session(session.session_id, agent_url=url)
    path, local = remote.export(tmp_path / "remote.jsonl"), session.export(tmp_path / "local.jsonl")
    exported = [
        {r.model_dump_json(exclude={"exported_ms"}) for r in open_source(each).records()} for each in (path, local)
    ]
    assert exported[0] == exported[1]
    report = Session.import_from(path, sid(), agent_url=url)
    assert dict(report.counts) == {"turns": 2, "messages": 4, "memories": 1, "files": 1, "documents": 1}
    assert [m.text for m in report.session.history()] == [m.text for m in session.history()]
    assert read_file(fleet.session(report.session.session_id), fleet, file_id) == content
    assert Session.import_from(path, report.session.session_id, agent_url=url).repeated
    foreign = Session.import_from(FOREIGN / "google_adk.sqlite", sid(), agent_url=url)
    assert len(foreign.left_out) == 2
    assert foreign.session.get_state() == {"step": 1, "last_city": "Paris"}
    with pytest.raises(NotFound):
        Session(sid(), agent_url=url).export(tmp_path / "none.jsonl")
    with pytest.raises(SessionExists):
        Session.import_from(FOREIGN / "praisonai.json", report.session.session_id, agent_url=url)
    assert not (tmp_path / "none.jsonl").exists()


def test_exports_and_imports_need_the_right_to_configure(
    secured_gateway: GatewayProcess, secured_store: Server
) -> None:
    """An export has agents' instructions, and an import brings agents: more than those who chat may see or change."""
    chats = made_key(secured_store, rights=("read", "write"))
    configures = made_key(secured_store, rights=("read", "write", "configure"), user="ann")
    for method, path in (("GET", "/v1/sessions/x/export"), ("POST", "/v1/sessions/import")):
        assert ask(secured_gateway, method, path, chats).status_code == 403
    lines = (
        b'{"type":"session","session_id":"mine","user_id":"bob"}\n'
        b'{"type":"agent","name":"A","config":{"name":"A"}}\n{"type":"end","counts":{"session":1,"agent":1}}\n'
    )
    wanted = {"content": lines, "headers": {"Content-Type": "application/x-ndjson"}}
    path = f"/v1/sessions/import?session_id={sid()}"
    answer = ask(secured_gateway, "POST", path, configures, **wanted)
    assert (answer.status_code, answer.json()["user_id"]) == (201, "ann")
    assert ask(secured_gateway, "POST", path, configures, **wanted).status_code == 200
    wrong = ask(secured_gateway, "POST", path, configures, content=lines[:-9], headers=wanted["headers"])
    assert wrong.status_code == 422
    assert "line 3" in wrong.json()["detail"]
    assert ask(secured_gateway, "POST", path, configures, json={}).status_code == 422


# --- the command line, and a death in the middle --------------------------------------------------------------


def run(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **fleet.env, "REDIS_URL": fleet.server.url, "SESSIONFLEET_HOME": str(fleet.folder / "home")}
    command = [sys.executable, "-m", "sessions.cli.main", "sessions", *arguments]
    return preloaded.run(command, env=env, cwd=ROOT, timeout=60)


def test_the_commands_export_and_import(fleet: Fleet, tmp_path: Path) -> None:
    """The folder, the file, and the warning that neither is encrypted."""
    session = fleet.session(sid(), user_id="ann")
    session.Agent().chat("SAY hello")
    done = run(fleet, "export", session.session_id, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "NOT encrypted" in done.stderr
    assert (tmp_path / session.session_id / "state.json").exists()
    assert run(fleet, "export", session.session_id, "--file", str(tmp_path / "chat.jsonl"), "--json").returncode == 0
    new_id = sid()
    done = run(fleet, "import", str(tmp_path / "chat.jsonl"), "--session", new_id, "--json")
    assert json.loads(done.stdout)["counts"]["turns"] == 1
    done = run(fleet, "import", str(FOREIGN / "google_adk.sqlite"), "--session", sid())
    assert "imported from a SQLite file of Google ADK: 2 turns, 4 messages" in done.stdout
    assert "not carried over: the state of the user" in done.stderr
    done = run(fleet, "import", str(tmp_path / "missing.json"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


_DIES = """
import os, signal, sys
from pathlib import Path
from sessions import Session
path, session_id, when = sys.argv[1:]
def progress(done, total):
    if done >= int(when):
        os.kill(os.getpid(), signal.SIGKILL)
Session.import_from(path, session_id, progress=progress)
"""


def test_an_import_that_dies_in_the_middle_leaves_no_session(fleet: Fleet, tmp_path: Path) -> None:
    """What it had stored expires by itself, and importing again works."""
    messages = json.loads((FOREIGN / "pydantic_ai.json").read_text()) * 500
    (tmp_path / "messages.json").write_text(json.dumps(messages))
    session_id = sid()
    env = {**os.environ, "REDIS_URL": fleet.server.url}
    command = [sys.executable, "-c", _DIES, str(tmp_path / "messages.json"), session_id, "400"]
    assert preloaded.run(command, env=env, cwd=ROOT, timeout=60).returncode == -signal.SIGKILL
    assert fleet.session(session_id).get_context()["created_at"] is None
    with fleet.server.client() as client:
        left = [key for key in client.scan_iter("sf:v1:*") if session_id.encode() in key]
        assert left
        assert all(0 < client.ttl(key) <= 3600 for key in left)
    report = Session.import_from(tmp_path / "messages.json", session_id, settings=fleet.settings)
    assert report.session.get_context()["message_count"] == 2000
