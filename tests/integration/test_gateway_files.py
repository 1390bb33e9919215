"""Files over REST, and in remote sessions: uploaded in a stream, referred to by ids, downloaded safely."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sessions import Audio, Image, Session
from sessions.errors import FileTooLarge, InvalidFile, RemoteError, SessionOwnerError, UnknownFile
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.http import good, problem

PHOTO = b"\x89PNG a photograph over HTTP"
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def http(fleet: Fleet, gateway_process: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway_process.url, timeout=40) as client:
        yield client


@pytest.fixture
def files(http: httpx.Client) -> str:
    """The path of a new session's files."""
    return f"/v1/sessions/rest-{uuid.uuid4().hex[:12]}/files"


def remote(gateway_process: GatewayProcess, **options: str) -> Session:
    return Session(f"remote-{uuid.uuid4().hex[:12]}", agent_url=f"{gateway_process.url}/agent", **options)  # type: ignore[arg-type]


def test_a_file_from_upload_to_deletion(http: httpx.Client, files: str, fleet: Fleet) -> None:
    """Upload, ask about it, see it in the transcript, download it, delete it."""
    made = good(http.post(files, content=PHOTO, headers=PNG, params={"name": "heron.png"}), 201)
    assert (made["type"], made["name"], made["media_type"], made["size"]) == (
        "image",
        "heron.png",
        "image/png",
        len(PHOTO),
    )
    again = good(http.post(files, content=PHOTO, headers=PNG, params={"name": "heron.png"}), 201)
    assert again["id"] == made["id"]
    mark = uuid.uuid4().hex[:8]
    parts = [{"type": "text", "text": f"SAY {mark}"}, {"type": "image", "file_id": made["id"]}]
    home = files.removesuffix("/files")
    turn = good(http.post(f"{home}/turns", json={"message": parts}, headers={"Prefer": "wait=20"}))
    assert turn["result"] == mark
    (asked,) = fleet.ledger("model_started", prompt=f"SAY {mark}")
    assert asked["files"][0].startswith("heron.png image/png")
    messages = good(http.get(f"{home}/messages"))["messages"]
    assert messages[0]["parts"][1]["file_id"] == made["id"]
    assert [file["id"] for file in good(http.get(files))["files"]] == [made["id"]]
    download = http.get(f"{files}/{made['id']}")
    assert download.content == PHOTO
    assert download.headers["content-disposition"] == "attachment; filename*=UTF-8''heron.png"
    assert download.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in download.headers["content-security-policy"]
    assert download.headers["content-type"] == "image/png"
    assert http.delete(f"{files}/{made['id']}").status_code == 204
    problem(http.delete(f"{files}/{made['id']}"), 404, "UnknownFile")
    problem(http.get(f"{files}/{made['id']}"), 404, "UnknownFile")
    receipt = good(http.delete(home))
    assert receipt["files"] == 0


def test_a_message_may_bring_a_small_file_along(http: httpx.Client, files: str, fleet: Fleet) -> None:
    """As base64, in the turn's JSON."""
    mark, home = uuid.uuid4().hex[:8], files.removesuffix("/files")
    inline = {"type": "image", "data": base64.b64encode(PHOTO).decode(), "media_type": "image/png"}
    message = [{"type": "text", "text": f"SAY {mark}"}, inline]
    good(http.post(f"{home}/turns", json={"message": message}, headers={"Prefer": "wait=20"}))
    assert len(fleet.ledger("model_started", prompt=f"SAY {mark}")[0]["files"]) == 1
    assert good(http.delete(home))["files"] == 1


@pytest.mark.parametrize(
    ("content", "headers", "status", "kind"),
    [
        (b"x", {"Content-Type": "video/mp4"}, 422, "InvalidFile"),
        (b"x", {"Content-Type": "no type"}, 422, "InvalidFile"),
        (b"x", {}, 422, "InvalidFile"),
        (b"x", {"Content-Type": "multipart/form-data; boundary=x"}, 422, "InvalidFile"),
        (b"", PNG, 422, "InvalidFile"),
        (b"x" * (21 * 1024 * 1024), PNG, 413, None),
    ],
    ids=["video", "no type", "absent", "form", "empty", "large"],
)
def test_what_cannot_be_uploaded(
    http: httpx.Client, files: str, content: bytes, headers: dict[str, str], status: int, kind: str | None
) -> None:
    """A problem that says why, and no session."""
    problem(http.post(files, content=content, headers=headers), status, kind)
    problem(http.get(files.removesuffix("/files")), 404)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image"},
        {"type": "image", "file_id": "a" * 64, "url": "https://example.org/a.png"},
        {"type": "image", "file_id": "../meta"},
        {"type": "image", "data": "not base64!", "media_type": "image/png"},
        {"type": "image", "data": "AAAA"},
        {"type": "image", "url": "file:///etc/passwd"},
        {"type": "image", "url": "/etc/passwd"},
        {"type": "video", "url": "https://example.org/a.mp4"},
        {"type": "text"},
    ],
    ids=str,
)
def test_bad_parts_are_refused(http: httpx.Client, files: str, part: dict[str, str]) -> None:
    """Before anything is accepted; no path of the gateway's machine is ever read."""
    home = files.removesuffix("/files")
    problem(http.post(f"{home}/turns", json={"message": [{"type": "text", "text": "what?"}, part]}), 422)


def test_another_user_gets_nothing(http: httpx.Client, files: str) -> None:
    """Neither the list nor the bytes; and an id of another session is not known here."""
    ann, bob = ({"X-User-ID": name} for name in ("ann", "bob"))
    made = good(http.post(files, content=PHOTO, headers={**PNG, **ann}), 201)
    for response in (
        http.get(files, headers=bob),
        http.get(f"{files}/{made['id']}", headers=bob),
        http.delete(f"{files}/{made['id']}", headers=bob),
        http.post(files, content=b"x", headers={**PNG, **bob}),
    ):
        problem(response, 403, "SessionOwnerError")
    other = f"/v1/sessions/rest-{uuid.uuid4().hex[:12]}/turns"
    message = [{"type": "text", "text": "what?"}, {"type": "image", "file_id": made["id"]}]
    problem(http.post(other, json={"message": message}, headers=bob), 404, "UnknownFile")


def test_a_remote_session_sends_files(gateway_process: GatewayProcess, fleet: Fleet, tmp_path: Path) -> None:
    """The same calls as in a local session."""
    session, mark = remote(gateway_process), uuid.uuid4().hex[:8]
    (tmp_path / "heron.png").write_bytes(PHOTO)
    agent = session.Agent("A")
    assert agent.chat([f"SAY {mark}", Image(tmp_path / "heron.png")]) == mark
    assert fleet.ledger("model_started", prompt=f"SAY {mark}")[0]["files"][0].startswith("heron.png image/png")
    (file,) = session.files()
    assert session.read_file(file.id) == PHOTO
    assert session.history().messages[0].parts[1]["name"] == "heron.png"
    uploaded = session.upload(Audio(b"sound", media_type="audio/mpeg"))
    assert agent.chat([f"SAY {mark} again", uploaded]) == f"{mark} again"
    assert session.delete_file(file.id)
    assert not session.delete_file(file.id)
    assert session.delete()["files"] == 1


def test_a_remote_session_gets_the_errors_of_a_local_one(gateway_process: GatewayProcess, fleet: Fleet) -> None:
    """By their classes."""
    session = remote(gateway_process, user_id="ann")
    file = session.upload(PHOTO, media_type="image/png")
    other = Session(session.session_id, user_id="bob", agent_url=f"{gateway_process.url}/agent")
    with pytest.raises(SessionOwnerError):
        other.files()
    with pytest.raises(UnknownFile):
        remote(gateway_process).chat(["what?", file])
    with pytest.raises(InvalidFile):
        session.upload(b"", media_type="image/png")
    with pytest.raises((FileTooLarge, RemoteError)):
        session.upload(bytes(21 * 1024 * 1024), media_type="image/png")
