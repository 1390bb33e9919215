"""A message in a request: a text, or a list of texts and files."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from sessions.gateway.parameters import TEXT
from sessions.gateway.strict_json import Body, Whole

FILE_ID: Final[dict[str, Any]] = {"pattern": "^[0-9a-f]{64}$"}
_ONE_OF: Final = ("file_id", "url", "data")


class TextPartBody(Body):
    """A text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "text", "text": "What is this?"}]})

    type: Literal["text"]
    text: str = Field(min_length=1, json_schema_extra=TEXT)


class FilePartBody(Body):
    """A file: one that was uploaded to the session, one at a URL, or a small one as base64."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [name]} for name in _ONE_OF],
            "examples": [
                {"type": "image", "file_id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
                {"type": "document", "url": "https://example.com/contract.pdf"},
                {"type": "image", "data": "iVBORw0KGgo=", "media_type": "image/png", "name": "dot.png"},
            ],
        }
    )

    type: Literal["image", "document", "audio"]
    file_id: str | None = Field(None, description="The `id` of a file of this session.", json_schema_extra=FILE_ID)
    url: str | None = Field(
        None,
        min_length=1,
        max_length=8192,
        description="http or https: a worker fetches it once, if workers may fetch URLs.",
    )
    data: str | None = Field(None, min_length=1, description="The bytes as base64; upload larger files instead.")
    media_type: str | None = Field(None, max_length=128, description="Needed with `data`.", examples=["image/png"])
    name: str | None = Field(None, max_length=512, description="The file's name, for people and models.")
    size: Whole | None = Field(None, ge=0, description="As transcripts show it; not needed.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(getattr(self, name) is not None for name in _ONE_OF) != 1:
            raise ValueError("send one of `file_id`, `url` and `data`")
        return self


PartBody = Annotated[TextPartBody | FilePartBody, Field(discriminator="type")]
_Text = Annotated[str, Field(min_length=1, json_schema_extra=TEXT), Tag("text")]
_Parts = Annotated[list[PartBody], Field(min_length=1, max_length=100), Tag("parts")]
MessageBody = Annotated[_Text | _Parts, Discriminator(lambda value: "parts" if isinstance(value, list) else "text")]
"""The field `message` of a turn."""


def message_of(body: str | list[PartBody]) -> str | list[dict[str, Any]]:
    """The message in the form that `asubmit` takes."""
    return body if isinstance(body, str) else [part.model_dump(exclude_none=True) for part in body]
