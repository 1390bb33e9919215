"""The parts of a message that has files: texts, and references to files. Never a file's bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

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
    """Parts as transcripts and events show them; a message may be sent with them again."""
    return [part.model_dump(exclude_defaults=True) | {"type": part.type} for part in parts]
