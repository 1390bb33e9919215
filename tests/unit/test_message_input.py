"""What can be sent as a message: texts, and files from paths, bytes and URLs; everything else is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import BinaryContent, ImageUrl

from sessions import Audio, Document, Image
from sessions.client.arguments.attachments import Attachment, attachment_of, file_name
from sessions.client.arguments.message import Content, message_content
from sessions.errors import BadRequest, InvalidFile, InvalidMessage
from sessions.protocol.message import MediaPart, TextPart
from sessions.store.submission import Upload

PNG = b"\x89PNG"


def test_a_path_gives_name_and_media_type(tmp_path: Path) -> None:
    """As a string or a Path; by the file's name, the same on every machine."""
    (tmp_path / "Photo.JPG").write_bytes(PNG)
    for source in (tmp_path / "Photo.JPG", str(tmp_path / "Photo.JPG")):
        image = Image(source)
        assert (image.name, image.media_type, image.url) == ("Photo.JPG", "image/jpeg", "")
        assert image.part == Upload("image", "Photo.JPG", "image/jpeg", tmp_path / "Photo.JPG")


def test_a_path_must_be_a_file(tmp_path: Path) -> None:
    """The error has the path, and where it was looked for."""
    with pytest.raises(FileNotFoundError, match=r"no file 'missing\.png' \(working directory"):
        Image("missing.png")
    with pytest.raises(InvalidFile, match="is a folder"):
        Image(tmp_path, media_type="image/png")


def test_bytes_need_a_media_type() -> None:
    """A name with a suffix is not one: what it says may be wrong."""
    with pytest.raises(InvalidFile, match="media_type="):
        Image(PNG)
    image = Image(PNG, media_type="Image/PNG; charset=x")
    assert (image.name, image.media_type) == ("image.png", "image/png")


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        (Image, "application/pdf"),
        (Image, "audio/mpeg"),
        (Audio, "image/png"),
        (Document, "image/png"),
        (Document, "application/octet-stream"),
        (Document, "video/mp4"),
        (Image, "image"),
        (Image, "image/"),
        (Image, "image/png\r\nX: y"),
        (Image, 5),
    ],
    ids=str,
)
def test_a_media_type_is_of_its_kind(kind: type[Attachment], media_type: Any) -> None:
    """No model takes anything else; it never becomes a header of its own."""
    with pytest.raises(InvalidFile):
        kind(PNG, media_type=media_type)


def test_a_file_of_unknown_type_needs_one(tmp_path: Path) -> None:
    """Rather than a guess that a provider refuses."""
    (tmp_path / "notes.xyz").write_bytes(b"x")
    with pytest.raises(InvalidFile, match=r"notes\.xyz"):
        Document(tmp_path / "notes.xyz")
    assert Document(tmp_path / "notes.xyz", media_type="text/plain").media_type == "text/plain"


def test_a_url_is_a_reference() -> None:
    """It is fetched later, by a worker; its server says the media type."""
    part = Image("https://example.org/a/photo.png?size=2").part
    assert part == MediaPart(type="image", url="https://example.org/a/photo.png?size=2", name="photo.png")
    for bad in ("https://", "https://[", "http://a b/c.png"):
        with pytest.raises(InvalidFile):
            Image(bad)


@pytest.mark.parametrize(
    ("given", "name"),
    [("../../etc/passwd", "passwd"), ("C:\\x\\a.png", "a.png"), ("a\r\nb.png", "ab.png"), ("x" * 300 + ".png", None)],
)
def test_a_name_has_no_folders(given: str, name: str | None) -> None:
    """And no control characters; a long one keeps its suffix."""
    found = file_name(given)
    assert found == name if name else (len(found) == 255 and found.endswith(".png"))


def test_the_kind_follows_from_the_media_type() -> None:
    """For `session.upload`."""
    assert [attachment_of(PNG, media_type=m).kind for m in ("image/png", "audio/wav", "application/pdf")] == [
        "image",
        "audio",
        "document",
    ]


def test_a_list_of_texts_is_a_text() -> None:
    """Nothing changes for agents and hooks without files."""
    assert message_content(["one", {"type": "text", "text": "two"}]) == Content("one\ntwo")
    assert message_content("one") == Content("one")


def test_parts_keep_their_order() -> None:
    """Ours, the REST API's, pydantic-ai's and OpenAI's."""
    content = message_content(
        [
            "one",
            Image(PNG, media_type="image/png"),
            {"type": "image", "file_id": "a" * 64},
            BinaryContent(b"%PDF", media_type="application/pdf"),
            ImageUrl("https://example.org/a.png"),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            "two",
        ]
    )
    assert content.text == "one\ntwo"
    kinds = [part.kind if isinstance(part, Upload) else part.type for part in content.parts]
    assert kinds == ["text", "image", "image", "document", "image", "image", "text"]
    assert content.parts[5] == Upload("image", "image.png", "image/png", b"\x00")
    assert isinstance(content.parts[0], TextPart)


def test_a_file_alone_is_a_message() -> None:
    """Without a list, and without a text."""
    assert message_content(Image(PNG, media_type="image/png")).text == ""


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "url": "/etc/passwd"},
        {"type": "image", "url": "file:///etc/passwd"},
        {"type": "image_url", "image_url": {"url": "/etc/passwd"}},
        {"type": "image", "path": "/etc/passwd"},
        {"type": "image"},
        {"type": "image", "file_id": "../meta"},
        {"type": "image", "data": "no base64!", "media_type": "image/png"},
        {"type": "video", "url": "https://example.org/a.mp4"},
        {"type": ["image"]},
        {},
        ["nested"],
        b"bytes",
        Path("photo.png"),
        None,
    ],
    ids=repr,
)
def test_other_parts_are_refused(part: Any) -> None:
    """Above all paths from somebody else's JSON: only `Image(path)` reads a file of this machine."""
    with pytest.raises(BadRequest):
        message_content(["what?", part])


def test_a_message_has_a_limited_number_of_parts() -> None:
    """100."""
    with pytest.raises(InvalidMessage, match="at most 100"):
        message_content(["x"] * 101)
