"""The files of messages and tools' results, as pydantic-ai sees them.

Everywhere but in a request that is about to be sent, a file is a reference: a `FileUrl` with a scheme of our own. So
the history, the journal and its fingerprints have ids and never bytes, and stay the same on a replay. The bytes take
the references' place immediately before the model is asked.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast, get_args

from pydantic_ai.exceptions import FallbackExceptionGroup, ModelHTTPError
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentMediaType,
    DocumentUrl,
    FileUrl,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ToolReturn,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.profiles import ModelProfile

from sessions.protocol.message import FILE_SCHEME, MediaKind, MediaPart, TextPart, file_ids, stored_part

_CLASSES: Final[dict[MediaKind, type[FileUrl]]] = {"image": ImageUrl, "audio": AudioUrl, "document": DocumentUrl}
_FLAGS: Final[dict[MediaKind, str]] = {
    "image": "supports_image_input",
    "audio": "supports_audio_file_input",
    "document": "supports_document_input",
}
_DOCUMENTS: Final = frozenset(get_args(DocumentMediaType))
_BASE64: Final = 4 / 3
_KINDS: Final = "image|image_url|input_image|audio|document|pdf|media|vision|multi-?modal"
# What servers say that cannot take a file; llama.cpp's with status 500.
_REFUSED: Final = re.compile(
    rf"\b({_KINDS}|file)s?\b.{{0,60}}\b(not supported|unsupported|not support|only supported|not accept)"
    rf"|\b(unsupported|(not|that) (support|accept|allow)s?)\b.{{0,30}}\b({_KINDS})",
    re.I,
)
_OTHER_CAUSES: Final = frozenset({401, 403, 408, 429})

Replace = Callable[[MediaPart], object]
"""What takes the place of a reference to a file."""


# --- references -------------------------------------------------------------------------------------------


def reference(part: MediaPart) -> FileUrl:
    """A file of the session as a content part."""
    details = {"name": part.name, "size": part.size}
    return _CLASSES[part.type](f"{FILE_SCHEME}{part.file_id}", media_type=part.media_type, vendor_metadata=details)


def part_of(item: object) -> MediaPart | None:
    """The file that a content part refers to; None for anything else."""
    if not isinstance(item, FileUrl) or not item.url.startswith(FILE_SCHEME):
        return None
    return stored_part({"url": item.url, "media_type": item.media_type, "vendor_metadata": item.vendor_metadata})


def prompt(text: str, parts: Sequence[TextPart | MediaPart], sent: str) -> str | list[UserContent]:
    """A message as a user prompt.

    Args:
        text: of the message, as the hooks left it; sent: as the user sent it. If it is another, it replaces all texts.
        parts: of a message with files.
    """
    if not parts:
        return text
    references = [reference(part) for part in parts if isinstance(part, MediaPart)]
    if text != sent:
        return cast(list[UserContent], [*([text] if text else []), *references])
    return cast(list[UserContent], [part.text if isinstance(part, TextPart) else reference(part) for part in parts])


def parts_in(value: object) -> list[MediaPart]:
    """The files of the session that a tool's result contains."""
    found: list[MediaPart] = []

    def note(part: MediaPart) -> object:
        found.append(part)
        return part

    if isinstance(value, ToolReturn):
        replaced(value.return_value, note)
        replaced(value.content, note)
    else:
        replaced(value, note)
    return found


def replaced(value: Any, by: Replace) -> Any:
    """A JSON-like value with each reference replaced; the same object if it contains none."""
    if isinstance(value, FileUrl):
        part = part_of(value)
        return value if part is None else by(part)
    if isinstance(value, Mapping):
        inner = {key: replaced(each, by) for key, each in value.items()}
        return inner if any(inner[key] is not each for key, each in value.items()) else value
    if isinstance(value, list | tuple):
        items = [replaced(each, by) for each in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def without_bytes(value: Any) -> Any:
    """A tool's result as events show it: files as the API has them."""
    return replaced(value, lambda part: part.model_dump(exclude_defaults=True) | {"type": part.type})


# --- requests ---------------------------------------------------------------------------------------------


async def with_files(
    messages: list[ModelMessage],
    read: Callable[[str], Awaitable[bytes | None]],
    can_take: Callable[[MediaPart], bool],
    cache: dict[str, bytes],
) -> list[ModelMessage]:
    """The messages of a request with the bytes of their files.

    A note takes the place of a file that the model cannot take, or that was deleted.

    Args:
        read: reads a file of the session; can_take: whether the model takes it; cache: what was read before.
    """
    parts = {part.file_id: part for part in files_of(messages)}
    if not parts:
        return messages
    for file_id, part in parts.items():
        if file_id not in cache and can_take(part) and (content := await read(file_id)) is not None:
            cache[file_id] = content

    def put(part: MediaPart) -> object:
        if not can_take(part):
            return f"{part.described[:-1]}, which this model cannot take]"
        if part.file_id not in cache:
            return f"{part.described[:-1]}, which was deleted]"
        return BinaryContent(cache[part.file_id], media_type=part.media_type, identifier=part.name or None)

    return [_message(message, put) for message in messages]


def files_of(messages: Iterable[ModelMessage]) -> list[MediaPart]:
    """The files that messages refer to."""
    return [part for message in messages for part in _parts_of(message)]


def takes(model: Model, part: MediaPart) -> bool:
    """Whether a model says that it takes this kind of file. A fallback chain takes what any of its models takes."""
    models: Iterable[Model] = getattr(model, "models", None) or (model,)
    return any(_profile_takes(each.profile, part) for each in models)


def _profile_takes(profile: ModelProfile, part: MediaPart) -> bool:
    if not profile.get(_FLAGS[part.type], True):
        return False
    if part.type != "document" or part.media_type not in _DOCUMENTS:
        return True
    return part.media_type in profile.get("supported_document_media_types", _DOCUMENTS)


def refuses_files(error: BaseException) -> bool:
    """Whether a provider refused a request because its model cannot take a file in it."""
    if isinstance(error, FallbackExceptionGroup):
        return any(refuses_files(each) for each in error.exceptions)
    if not isinstance(error, ModelHTTPError) or error.status_code in _OTHER_CAUSES:
        return False
    return _REFUSED.search(str(error)) is not None


def bytes_of_files(message: ModelMessage) -> int:
    """How much the files of a message add to a request."""
    return int(sum(part.size for part in _parts_of(message)) * _BASE64)


def _parts_of(message: ModelMessage) -> list[MediaPart]:
    if not isinstance(message, ModelRequest):
        return []
    contents = (part.content for part in message.parts if isinstance(part, UserPromptPart | ToolReturnPart))
    return [part for content in contents if not isinstance(content, str) for part in parts_in(content)]


def _message(message: ModelMessage, by: Replace) -> ModelMessage:
    if not isinstance(message, ModelRequest) or not _parts_of(message):
        return message
    parts = [
        replace(part, content=replaced(part.content, by))
        if isinstance(part, UserPromptPart | ToolReturnPart) and not isinstance(part.content, str)
        else part
        for part in message.parts
    ]
    return replace(message, parts=parts)


# --- history ----------------------------------------------------------------------------------------------


def has_files(messages: bytes) -> bool:
    """Whether the messages of a past turn refer to files."""
    return FILE_SCHEME.encode() in messages


def without_files(messages: bytes) -> bytes:
    """The messages of a past turn with a note in the place of each file.

    Raises:
        ValueError: they are not messages of this or an earlier version.
    """
    loaded = ModelMessagesTypeAdapter.validate_json(messages)
    noted = [_message(each, lambda part: f"{part.described[:-1]}, sent earlier]") for each in loaded]
    return ModelMessagesTypeAdapter.dump_json(noted)


def described(item: object) -> str:
    """A content part in words."""
    if isinstance(item, str):
        return item
    part = part_of(item)
    return f"({type(item).__name__})" if part is None else part.described


def ids_in(value: object) -> list[str]:
    """The ids of the session's files that a tool's result contains."""
    return file_ids(parts_in(value))
