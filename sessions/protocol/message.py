"""The parts of a message that has files: texts, and references to files. Never a file's bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MediaKind = Literal["image", "document", "audio"]


class TextPart(BaseModel):
    """A text."""

    model_config = ConfigDict(frozen=True)

    type: Literal["text"] = "text"
    text: str


class MediaPart(BaseModel):
    """A file: one of the session's, or one that a worker is to fetch from a URL.

    Attributes:
        file_id: its id in the session; "" for one that is not fetched yet.
        url: where to fetch it; "" for a file of the session.
    """

    model_config = ConfigDict(frozen=True)

    type: MediaKind
    file_id: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    url: str = ""
    name: str = ""
    media_type: str = ""
    size: int = 0

    @property
    def described(self) -> str:
        """The file in words, for where it cannot be shown: `[image photo.jpg]`."""
        return f"[{self.type} {self.name or self.url or self.file_id[:12]}]"


MessagePart = Annotated[TextPart | MediaPart, Field(discriminator="type")]
FILE_SCHEME: Final = "sessionfleet-file:"
"""The scheme of URLs by which histories and journals refer to files of their session."""
_PARTS: Final[TypeAdapter[tuple[MessagePart, ...]]] = TypeAdapter(tuple[MessagePart, ...])


def kind_of(media_type: str) -> MediaKind:
    """What a file of this media type is to a model."""
    family = media_type.partition("/")[0]
    return "image" if family == "image" else "audio" if family == "audio" else "document"


def text_of(parts: Iterable[TextPart | MediaPart]) -> str:
    """The texts of a message."""
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def file_ids(parts: Iterable[TextPart | MediaPart]) -> list[str]:
    """The ids of the session's files in a message."""
    return list(dict.fromkeys(part.file_id for part in parts if isinstance(part, MediaPart) and part.file_id))


def dump_parts(parts: Iterable[TextPart | MediaPart]) -> bytes:
    """Parts as JSON."""
    return _PARTS.dump_json(tuple(parts), exclude_defaults=False)


def load_parts(raw: bytes | str) -> tuple[TextPart | MediaPart, ...]:
    """Parts from their JSON.

    Raises:
        ValueError: they cannot be read.
    """
    return _PARTS.validate_json(raw)


def shown_parts(parts: Iterable[TextPart | MediaPart]) -> list[dict[str, Any]]:
    """Parts as transcripts and events show them, and as the REST API takes them."""
    return [part.model_dump(exclude_defaults=True) | {"type": part.type} for part in parts]


def stored_part(item: Any) -> MediaPart | None:
    """The file that an item of a stored message refers to; None for anything else."""
    if not isinstance(item, dict) or not str(item.get("url", "")).startswith(FILE_SCHEME):
        return None
    media_type, details = str(item.get("media_type", "")), item.get("vendor_metadata") or {}
    try:
        return MediaPart(
            type=kind_of(media_type),
            file_id=item["url"].removeprefix(FILE_SCHEME),
            name=details.get("name", ""),
            media_type=media_type,
            size=details.get("size", 0),
        )
    except ValidationError:
        return None


def parts_of_content(content: Any) -> tuple[TextPart | MediaPart, ...]:
    """The parts of a stored message's content, a text or a list."""
    items = content if isinstance(content, list) else [content]
    return tuple(stored_part(item) or TextPart(text=text_of_item(item)) for item in items)


def text_of_item(item: Any) -> str:
    """An item of a stored message's content as text."""
    return item if isinstance(item, str) else json.dumps(item)
