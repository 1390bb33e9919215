"""A message: a text, or a list of texts and files."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from sessions.client.arguments.attachments import Attachment, attachment_of
from sessions.client.arguments.values import message_text
from sessions.errors import InvalidFile, InvalidMessage
from sessions.protocol.message import MediaKind, MediaPart, TextPart, text_of
from sessions.store.files import StoredFile
from sessions.store.submission import Part, Upload

MessagePartInput = str | Attachment | StoredFile | Mapping[str, Any]
"""A text, a file, or either of them as the REST API has it: `{"type": "image", "file_id": ...}`."""
MessageInput = str | Attachment | StoredFile | Sequence[MessagePartInput]
"""What can be sent as a message: a text, or texts and files in their order."""

_MOST_PARTS: Final = 100
_DATA_URL: Final = re.compile(r"data:(?P<type>[^,;]*)(;[^,]*)?;base64,(?P<data>.*)\Z", re.S)
# The kinds of pydantic-ai's content parts, which are recognised by their attributes: clients do not load pydantic-ai.
_URL_KINDS: Final[dict[object, MediaKind]] = {"image-url": "image", "audio-url": "audio", "document-url": "document"}


@dataclass(frozen=True, slots=True)
class Content:
    """A checked message.

    Attributes:
        text: the text; of several texts, joined by line breaks.
        parts: of a message with files, in their order; empty for one that is only text.
    """

    text: str
    parts: tuple[Part, ...] = ()


def message_content(message: object) -> Content:
    """Check a message.

    Raises:
        InvalidMessage: it is neither a non-empty string nor a list of such strings and files. InvalidFile: a file in it
            cannot be sent.
    """
    if isinstance(message, Content):
        return message
    if isinstance(message, str):
        return Content(message_text(message))
    if isinstance(message, Attachment | StoredFile):
        message = [message]
    if not isinstance(message, list | tuple) or not message:
        return Content(message_text(message))
    if len(message) > _MOST_PARTS:
        raise InvalidMessage(f"the message has {len(message)} parts: send at most {_MOST_PARTS}")
    parts = tuple(_part(each) for each in message)
    text = text_of(part for part in parts if not isinstance(part, Upload))
    if all(isinstance(part, TextPart) for part in parts):
        return Content(message_text(text))
    return Content(text, parts)


def _part(value: object) -> Part:
    if isinstance(value, str):
        return TextPart(text=message_text(value))
    if isinstance(value, Attachment):
        return value.part
    if isinstance(value, StoredFile):
        return value.part
    if isinstance(value, Mapping):
        return _part_of_mapping(value)
    if getattr(value, "kind", None) == "binary":
        return attachment_of(value.data, media_type=value.media_type).part  # type: ignore[attr-defined]
    kind, url = _URL_KINDS.get(getattr(value, "kind", None)), getattr(value, "url", None)
    if kind is not None and isinstance(url, str):
        return attachment_of(_url(url), kind=kind).part
    raise InvalidMessage(
        f"a part of the message is {type(value).__name__}: send texts, and files as Image, Document or Audio"
    )


def _part_of_mapping(value: Mapping[str, Any]) -> Part:
    """A part in the REST API's form, or a text or an image in OpenAI's."""
    kind = value.get("type")
    if kind == "text":
        return TextPart(text=message_text(value.get("text")))
    if kind == "image_url":
        given = value.get("image_url")
        return _of_url("image", given.get("url") if isinstance(given, Mapping) else given, None, None)
    if kind not in ("image", "document", "audio"):
        raise InvalidMessage(f"a part of the message has the type {kind!r}: use 'text', 'image', 'document' or 'audio'")
    found = [name for name in ("file_id", "url", "data") if value.get(name)]
    if len(found) != 1:
        raise InvalidFile(f"a part of type {kind!r} has {found or 'none'} of file_id, url and data: give one of them")
    name, media_type = value.get("name"), value.get("media_type")
    if found == ["url"]:
        return _of_url(kind, value["url"], media_type, name)
    if found == ["data"]:
        return attachment_of(_decoded(value["data"]), kind=kind, media_type=media_type, name=name).part
    return _of_session(kind, value)


def _of_session(kind: MediaKind, value: Mapping[str, Any]) -> MediaPart:
    try:
        # Name, media type and size are filled in from the session's own list.
        return MediaPart(type=kind, file_id=value["file_id"])
    except ValidationError as error:
        raise InvalidFile(f"file_id {str(value['file_id'])[:80]!r}: use the id that the upload returned") from error


def _of_url(kind: MediaKind, url: object, media_type: str | None, name: str | None) -> Part:
    if isinstance(url, str) and (inline := _DATA_URL.match(url)):
        return attachment_of(
            _decoded(inline["data"]), kind=kind, media_type=media_type or inline["type"], name=name
        ).part
    return attachment_of(_url(url), kind=kind, media_type=media_type, name=name).part


def _url(url: object) -> str:
    # Not a path: it may come from somebody else, who must not name files of this machine.
    if not isinstance(url, str) or not re.match(r"https?://", url, re.I):
        raise InvalidFile(f"url {str(url)[:80]!r}: use one that begins with https:// or http://")
    return url


def _decoded(data: object) -> bytes:
    try:
        if not isinstance(data, str):
            raise TypeError(type(data).__name__)
        return base64.b64decode(data, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise InvalidFile(f"data is not base64: {error}") from error
