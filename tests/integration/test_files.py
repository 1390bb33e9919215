"""Images and files in messages, with encryption and over crashes: stored once, seen by the model, gone at the end."""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions import Document, EventType, Image, Session
from sessions.errors import (
    FileTooLarge,
    FileUnavailable,
    IdempotencyConflict,
    InvalidFile,
    SessionOwnerError,
    StoreFull,
    ToolError,
    TooManyFiles,
    UnknownFile,
    UnsupportedMedia,
)
from tests.support.fleet import Fleet, running_fleet
from tests.support.pages import Page, serving
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

PHOTO = b"\x89PNG a photograph of a heron at the pond"
OTHER = b"\x89PNG another photograph"
SETTINGS = {
    "SESSIONFLEET_ENCRYPTION_KEYS": f"k:{base64.b64encode(bytes(32)).decode()}",
    "SESSIONFLEET_LEASE": "2",
    "SESSIONFLEET_FILE_TURNS": "1",
    "SESSIONFLEET_FILE_URLS": "any",
    "SESSIONFLEET_FILE_LIMIT_BYTES": "2000000",
    "SESSIONFLEET_FILES_LIMIT": "4",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Server(tmp_path_factory.mktemp("files-store"))) as started:
        yield started


@pytest.fixture(scope="module")
def fleet(store: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers with encryption, short leases and small limits; tests may kill one and start another."""
    with running_fleet(tmp_path_factory.mktemp("files"), store, SETTINGS, workers=("f1", "f2")) as started:
        yield started


def seen(data: bytes, name: str = "image.png", media_type: str = "image/png") -> str:
    """A file as the model's double notes it."""
    return f"{name} {media_type} {hashlib.sha256(data).hexdigest()[:8]}"


def shown(fleet: Fleet, prompt: str) -> list[list[str]]:
    """The files that the model saw, for each request with this prompt."""
    return [line["files"] for line in fleet.ledger("model_started", prompt=prompt)]


def photo(data: bytes = PHOTO) -> Image:
    return Image(data, media_type="image/png")


def new(fleet: Fleet, **options: Any) -> Session:
    return fleet.session(f"files-{uuid.uuid4().hex[:12]}", **options)


def say() -> str:
    """A prompt of its own, by which a test finds its requests."""
    return f"SAY {uuid.uuid4().hex[:12]}"


def test_the_model_sees_an_image_and_nobody_else_its_bytes(fleet: Fleet, tmp_path: Path) -> None:
    """A path and bytes of the same content are one file; history has references; the store has nothing in clear."""
    (tmp_path / "heron.png").write_bytes(PHOTO)
    session, question = new(fleet), say()
    agent = session.Agent("A")
    assert agent.chat([question, Image(tmp_path / "heron.png"), photo()]) == question[4:]
    assert shown(fleet, question) == [[seen(PHOTO, "heron.png"), seen(PHOTO)]]
    (file,) = session.files()
    assert (file.size, file.media_type, file.kind) == (len(PHOTO), "image/png", "image")
    assert session.read_file(file.id) == PHOTO
    asked, answered = session.history()
    assert asked.text == f"{question} [image heron.png] [image image.png]"
    assert [part["type"] for part in asked.parts] == ["text", "image", "image"]
    assert asked.parts[1] == {
        "type": "image", "file_id": file.id, "name": "heron.png", "media_type": "image/png", "size": len(PHOTO),
    }  # fmt: skip
    assert answered.parts == []
    with fleet.server.client() as client:
        kept = b"".join(client.dump(key) or b"" for key in client.scan_iter(count=1000))
    assert b"heron at the pond" not in kept
    assert b"heron.png" not in kept
    assert base64.b64encode(PHOTO)[:20] not in kept


def test_a_large_file_goes_through_in_pieces(fleet: Fleet) -> None:
    """No value in the store is larger than a piece; the model gets the whole."""
    session, question, large = new(fleet), say(), os.urandom(1_500_000)
    session.Agent("A").chat([question, photo(large)])
    assert shown(fleet, question) == [[seen(large)]]
    with fleet.server.client() as client:
        (key,) = client.scan_iter(f"*{session.session_id}:file:*", count=1000)
        pieces = client.hgetall(key)
    assert len(pieces) == 6
    assert max(map(len, pieces.values())) < 263_000


def test_an_image_is_sent_again_for_some_turns(fleet: Fleet) -> None:
    """Then a note stands in its place (here after one turn, SESSIONFLEET_FILE_TURNS=1)."""
    agent, questions = new(fleet).Agent("A"), [say() for _ in range(3)]
    agent.chat([questions[0], photo()])
    agent.chat(questions[1])
    agent.chat(questions[2])
    files = [shown(fleet, question)[0] for question in questions]
    assert files == [[seen(PHOTO)], [seen(PHOTO)], ["[image image.png, sent earlier]"]]


def test_a_tool_returns_a_file(fleet: Fleet) -> None:
    """Stored once, shown to the model, and a reference in events and history; another tool reads the message's."""
    session = new(fleet)
    turn = session.Agent("A", tools=["draw", "weigh"]).submit(
        ['CALL draw({"text": "a heron"})\nCALL weigh({})', Document(b"x" * 77, media_type="text/plain", name="a.txt")]
    )
    assert turn.result(timeout=30) == "ok: ['a.txt: 77']"
    drawn = b"picture of a heron"
    names = {file.name: file for file in session.files()}
    assert session.read_file(names["a heron.png"].id) == drawn
    returned = next(e.data["result"] for e in turn.events() if e.type is EventType.TOOL_RESULT)
    assert returned[0] == "drawn:"
    assert returned[1]["file_id"] == names["a heron.png"].id
    tool = next(message for message in session.history() if message.role == "tool")
    assert tool.text == "drawn: [image a heron.png]"
    assert tool.parts[1]["file_id"] == names["a heron.png"].id
    last = fleet.ledger("model_started", step=2)[-1]
    assert seen(drawn, "a heron.png") in last["files"]
    with fleet.server.client() as client:
        assert all(client.ttl(key) == -1 for key in client.scan_iter(f"*{session.session_id}:file:*"))


def test_a_replay_sees_what_the_first_attempt_saw(fleet: Fleet) -> None:
    """Killed after the upload and while the model looks: the next worker sends the same request, and no tool twice."""
    session, text = new(fleet), uuid.uuid4().hex[:8]
    prompt = f'CALL draw({{"text": "{text}"}})\nHANG 1 60'
    turn = session.Agent("A", tools=["draw"]).submit([prompt, photo()])
    hung = fleet.noted("hung", prompt=prompt)[0]
    fleet.worker_of_pid(hung["pid"]).kill()
    assert turn.result(timeout=30).startswith("ok: ['drawn:'")
    assert len(fleet.ledger("draw", text=text)) == 1
    first, second, again = shown(fleet, prompt)
    assert first == [seen(PHOTO)]
    assert second == again == [seen(PHOTO), seen(b"picture of " + text.encode(), f"{text}.png")]
    assert len(session.files()) == 2
    fleet.start(f"f{uuid.uuid4().hex[:4]}")
    fleet.ready()


def test_a_message_with_a_file_joins_a_running_turn(fleet: Fleet) -> None:
    """Policy steer: the model sees it before its next request, and so does a replay."""
    session, mark = new(fleet), uuid.uuid4().hex[:8]
    agent = session.Agent("A", tools=["linger"])
    turn = agent.submit(f'CALL linger({{"seconds": 3}})\nSAY {mark}')
    wait_until(lambda: fleet.ledger("linger", key=f"{turn.id}:call1"), description="the tool runs")
    joined = agent.submit([f"SAY steered {mark}", photo()], policy="steer")
    assert joined.id == turn.id
    turn.result(timeout=30)
    assert shown(fleet, f"SAY steered {mark}")[-1] == [seen(PHOTO)]
    steered = next(e for e in turn.events() if e.type is EventType.STEERED)
    assert steered.data["text"] == f"SAY steered {mark}"
    assert steered.data["parts"][1]["name"] == "image.png"
    texts = [message.text for message in session.history() if message.role == "user"]
    assert texts[-1] == f"SAY steered {mark} [image image.png]"


def test_an_idempotency_key_covers_the_files(fleet: Fleet) -> None:
    """The same key with the same content is the same turn; with another image it is a conflict."""
    session, question = new(fleet), say()
    agent = session.Agent("A")
    first = agent.submit([question, photo()], idempotency_key="k")
    assert agent.submit([question, photo()], idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyConflict):
        agent.submit([question, photo(OTHER)], idempotency_key="k")
    first.result(timeout=20)
    assert len(shown(fleet, question)) == 1


def test_a_model_that_takes_no_images_is_not_asked(fleet: Fleet) -> None:
    """A typed error before anything is paid; images of earlier turns become a note."""
    session, question, later = new(fleet), say(), say()
    with pytest.raises(UnsupportedMedia, match=r"blind.*image/png"):
        session.Agent("A", model="blind").chat([question, photo()])
    assert shown(fleet, question) == []
    session.Agent("B", model="double").chat([question, photo()])
    session.Agent("B", model="blind").chat(later)
    assert shown(fleet, later)[0][-1] == "[image image.png, which this model cannot take]"


def test_a_deleted_file_leaves_a_note(fleet: Fleet) -> None:
    """Its bytes are gone at once; the session goes on."""
    session, question = new(fleet), say()
    agent = session.Agent("A")
    agent.chat(["SAY x", photo()])
    (file,) = session.files()
    assert session.delete_file(file.id)
    assert not session.delete_file(file.id)
    assert session.files() == []
    with pytest.raises(UnknownFile):
        session.read_file(file.id)
    agent.chat(question)
    assert shown(fleet, question) == [["[image image.png, which was deleted]"]]


def test_files_belong_to_their_session_and_its_user(fleet: Fleet) -> None:
    """The id of another session's file, or another user, is refused, and nothing is accepted."""
    mine, yours = new(fleet, user_id="alice"), new(fleet, user_id="bob")
    file = mine.upload(photo())
    with pytest.raises(UnknownFile):
        yours.Agent("A").chat(["what?", file])
    with pytest.raises(UnknownFile):
        yours.read_file(file.id)
    other = fleet.session(mine.session_id, user_id="bob")
    for attempt in (
        lambda: other.upload(photo(OTHER)),
        other.files,
        lambda: other.read_file(file.id),
        lambda: other.delete_file(file.id),
        lambda: other.Agent("A").chat(["what?", file]),
    ):
        with pytest.raises(SessionOwnerError):
            attempt()
    elsewhere = fleet.session(mine.session_id, tenant="elsewhere")
    with pytest.raises(UnknownFile):
        elsewhere.Agent("A").chat(["what?", file])
    assert elsewhere.files() == []


def test_limits_refuse_before_anything_is_accepted(fleet: Fleet) -> None:
    """Size and number; the session goes on with text."""
    session = new(fleet)
    agent = session.Agent("A")
    with pytest.raises(FileTooLarge, match="SESSIONFLEET_FILE_LIMIT_BYTES"):
        agent.chat(["what?", photo(bytes(2_000_001))])
    with pytest.raises(TooManyFiles, match="SESSIONFLEET_FILES_LIMIT"):
        agent.chat(["what?", *(photo(b"%d" % n) for n in range(5))])
    with pytest.raises(InvalidFile):
        agent.chat(["what?", photo(b"")])
    assert agent.chat("SAY on") == "on"
    assert [message.text for message in session.history()] == ["SAY on", "on"]


def test_a_worker_fetches_a_url_once(fleet: Fleet) -> None:
    """The bytes are the session's from then on, whatever the URL says later; the server's media type counts."""
    with serving({"/heron": Page(PHOTO, "image/png"), "/page": Page(b"<html>", "text/html")}) as site:
        session, question, later = new(fleet), say(), say()
        agent = session.Agent("A")
        agent.chat([question, Image(f"{site.url}/heron")])
        agent.chat(later)
        assert site.asked == ["/heron"]
        assert shown(fleet, question) == shown(fleet, later) == [[seen(PHOTO, "heron")]]
        assert [file.name for file in session.files()] == ["heron"]
        with pytest.raises(FileUnavailable, match="text/html"):
            agent.chat(["what?", Image(f"{site.url}/page")])
        with pytest.raises(FileUnavailable, match="404"):
            agent.chat(["what?", Image(f"{site.url}/missing")])


def test_metadata_servers_are_never_asked(fleet: Fleet) -> None:
    """Not even where private addresses are allowed."""
    with pytest.raises(FileUnavailable, match="cannot be fetched"):
        new(fleet).Agent("A").chat(["what?", Image("http://169.254.169.254/latest/a.png")])


def test_a_fork_has_the_files_and_a_deletion_counts_them(fleet: Fleet) -> None:
    """The fork's files stay when the original is deleted, with no key left of it."""
    session, question = new(fleet), say()
    session.Agent("A").chat(["SAY x", photo()])
    fork = session.fork()
    assert session.delete()["files"] == 1
    fork.Agent("A").chat(question)
    assert shown(fleet, question) == [[seen(PHOTO)]]
    assert fork.delete()["files"] == 1
    with fleet.server.client() as client:
        left = [
            key
            for each in (session, fork)
            for key in client.scan_iter(f"*{each.session_id}*", count=1000)
            if b":file" in key
        ]
    assert left == []


def test_a_session_with_a_ttl_takes_its_files_along(fleet: Fleet) -> None:
    """All keys have the same expiry after the last turn."""
    session = new(fleet, ttl=90.0)
    session.Agent("A").chat(["SAY x", photo()])
    (file,) = session.files()
    keys = session.keys
    with fleet.server.client() as client:
        assert client.pexpiretime(keys.file(file.id)) == client.pexpiretime(keys.meta) > 0


def test_a_tool_that_returns_too_much_fails_its_call(fleet: Fleet) -> None:
    """The limit of files holds for tools too; the error says so."""
    session = new(fleet)
    for number in range(4):
        session.upload(b"%d" % number, media_type="image/png")
    with pytest.raises(ToolError, match="SESSIONFLEET_FILES_LIMIT"):
        session.Agent("A", tools=["draw"]).chat('CALL draw({"text": "one more"})')


def test_a_full_store_says_so_before_anything_is_written(store: Server, fleet: Fleet) -> None:
    """The file would not fit: no part of it is stored."""
    session = new(fleet)
    with store.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 1_500_000)
        try:
            with pytest.raises(StoreFull, match="1,800,000 bytes"):
                session.upload(bytes(1_800_000), media_type="image/png")
        finally:
            client.config_set("maxmemory", 0)
        assert not list(client.scan_iter(f"*{session.session_id}*"))


def test_a_regenerated_answer_sees_the_same_files(fleet: Fleet) -> None:
    """Without a new message the files are sent again; an edited message may have others."""
    session, question, edited = new(fleet), say(), say()
    session.Agent("A").chat([question, photo()])
    session.regenerate()
    assert shown(fleet, question) == [[seen(PHOTO)], [seen(PHOTO)]]
    session.regenerate(message=[edited, photo(OTHER)])
    assert shown(fleet, edited) == [[seen(OTHER)]]


def test_a_message_may_be_only_a_file(fleet: Fleet) -> None:
    """Its session is named after the file, and so is the turn in a list."""
    session = new(fleet)
    assert session.Agent("A").chat(photo()) == "ok"
    assert session.history().messages[0].text == "[image image.png]"
    assert session.info().title == "[image image.png]"
    assert next(iter(session.turns())).message == "[image image.png]"


def test_a_user_with_whom_a_session_is_shared_may_use_its_files(fleet: Fleet) -> None:
    """`read` is enough to read them; `write` to add and delete."""
    session = new(fleet, user_id="ann")
    file = session.upload(photo())
    session.share("bob", rights="read")
    theirs = fleet.session(session.session_id, user_id="bob")
    assert theirs.read_file(file.id) == PHOTO
    with pytest.raises(SessionOwnerError):
        theirs.upload(photo(OTHER))
    session.share("bob", rights="write")
    assert theirs.delete_file(theirs.upload(photo(OTHER)).id)
