"""`Image`, `Document` and `Audio`: files of messages and of tools' results, from a path, bytes or a URL.

(`Text` and `Address` of `sessions.sources` are for knowledge documents, which are searched; these are shown to models.)
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final, cast
from urllib.parse import unquote, urlsplit

from sessions.errors import InvalidFile
from sessions.protocol.media_types import media_type_of, suffix_of
from sessions.protocol.message import MediaKind, MediaPart
from sessions.protocol.text import is_encodable
from sessions.store.submission import Upload

_URL: Final = re.compile(r"https?://[^\s\x00-\x20\x7f]+\Z", re.I)
_WEB: Final = re.compile(r"https?://", re.I)
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}\Z")
_LONGEST_NAME: Final = 255
_LONGEST_URL: Final = 8192
_UNKNOWN: Final = "application/octet-stream"


class Attachment:
    """A file of a message. Use one of its kinds: `Image`, `Document` or `Audio`.

    Args:
        source: a path (a string or a Path), bytes, or an http or https URL. A file is read when the message is sent; a
            URL is fetched by a worker, once.
        media_type: such as "image/png"; needed for bytes. By default it follows from the file's name, or the server of
            a URL says it.
        name: the file's name, for people and models; by default that of the path or the URL.

    Raises:
        FileNotFoundError: there is no such file. InvalidFile: an argument cannot be used.
    """

    kind: ClassVar[MediaKind]

    def __init__(
        self, source: str | os.PathLike[str] | bytes, *, media_type: str | None = None, name: str | None = None
    ) -> None:
        self.url = ""
        self._content: bytes | Path = b""
        if isinstance(source, str) and _WEB.match(source):
            self.url = _checked_url(source)
            given = ""
        elif isinstance(source, bytes | bytearray | memoryview):
            self._content = bytes(source)
            given = ""
        elif isinstance(source, str | os.PathLike):
            self._content = _checked_path(Path(source))
            given = self._content.name
        else:
            raise InvalidFile(f"{self._called}({type(source).__name__}): pass a path, bytes or a URL")
        self.media_type = self._checked_type(media_type, given)
        self.name = file_name(name if name is not None else given or self._default_name())

    def __repr__(self) -> str:
        return f"{self._called}({self.name!r}, media_type={self.media_type!r})"

    @property
    def _called(self) -> str:
        return type(self).__name__

    def _checked_type(self, given: object, name: str) -> str:
        if given is None:
            found = media_type_of(name) or ""
            if not found and not self.url:
                of = f"of {name!r} " if name else ""
                raise InvalidFile(f"{self._called}: the media type {of}is not known: pass media_type=, {self._example}")
        else:
            found = checked_media_type(given)
        if found and not self._takes(found):
            raise InvalidFile(f"{self._called}: {found!r} is no media type of it: use {self._example}")
        return found

    def _takes(self, media_type: str) -> bool:
        return kind_for(media_type) == self.kind

    @property
    def _example(self) -> str:
        examples = {"image": "image/png", "audio": "audio/mpeg", "document": "application/pdf"}
        return f"such as {examples[self.kind]!r}"

    def _default_name(self) -> str:
        if self.url:
            return PurePosixPath(unquote(urlsplit(self.url).path)).name
        return f"{self.kind}{suffix_of(self.media_type)}"

    @property
    def part(self) -> MediaPart | Upload:
        """The file as a part of a submission."""
        if self.url:
            return MediaPart(type=self.kind, url=self.url, name=self.name, media_type=self.media_type)
        return Upload(self.kind, self.name, self.media_type, self._content)


class Image(Attachment):
    """An image for a model: `Image("photo.jpg")`, `Image(data, media_type="image/png")`, `Image("https://...")`."""

    kind = "image"


class Document(Attachment):
    """A document for a model, such as a PDF: `Document("contract.pdf")`; arguments as for `Image`."""

    kind = "document"


class Audio(Attachment):
    """A recording for a model: `Audio("question.mp3")`; arguments as for `Image`."""

    kind = "audio"


def attachment_of(
    source: object, *, media_type: str | None = None, name: str | None = None, kind: MediaKind | None = None
) -> Attachment:
    """An `Image`, `Document` or `Audio`, depending on the media type, from what `Attachment` takes.

    Raises:
        FileNotFoundError, InvalidFile: as `Attachment`.
    """
    if isinstance(source, Attachment):
        return source
    if kind is None:
        given = media_type if media_type is not None else media_type_of(_name_in(source)) or ""
        kind = kind_for(given) or "document"
    kinds: dict[MediaKind, type[Attachment]] = {"image": Image, "document": Document, "audio": Audio}
    return kinds[kind](cast(Any, source), media_type=media_type, name=name)  # which checks the source


def kind_for(media_type: str) -> MediaKind | None:
    """What a file of this media type is to a model; None for what no model takes."""
    family = media_type.partition("/")[0]
    if family in ("image", "audio"):
        return "image" if family == "image" else "audio"
    return "document" if family in ("application", "text") and media_type != _UNKNOWN else None


def checked_media_type(value: object) -> str:
    """A media type without its parameters, in lower case.

    Raises:
        InvalidFile: it is not one.
    """
    plain = value.partition(";")[0].strip().lower() if isinstance(value, str) else ""
    if not _MEDIA_TYPE.match(plain):
        raise InvalidFile(f"media type {value!r}: use one such as 'image/png', 'application/pdf' or 'audio/mpeg'")
    if kind_for(plain) is None:
        raise InvalidFile(f"media type {plain!r}: send an image, a document (such as a PDF or a text) or audio")
    return plain


def file_name(value: object) -> str:
    """A file's name, without folders.

    Raises:
        InvalidFile: it is not a string of valid UTF-8.
    """
    if not isinstance(value, str) or not is_encodable(value):
        raise InvalidFile(f"name {value!r}: use the name of a file, a string of valid UTF-8")
    plain = "".join(char for char in re.split(r"[\\/]", value)[-1] if char.isprintable()).strip()
    stem, dot, suffix = plain.rpartition(".")
    if len(plain) > _LONGEST_NAME and dot and len(suffix) < 16:
        return f"{stem[: _LONGEST_NAME - len(suffix) - 1]}.{suffix}"
    return plain[:_LONGEST_NAME]


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidFile("this is not a URL; a URL looks like https://example.org/photo.jpg") from error
    if not host or not _URL.match(url) or len(url) > _LONGEST_URL or not is_encodable(url):
        raise InvalidFile(f"this is not a URL of at most {_LONGEST_URL} characters, such as https://example.org/a.jpg")
    return url


def _checked_path(path: Path) -> Path:
    if path.is_dir():
        raise InvalidFile(f"{str(path)!r} is a folder: send its files, one by one")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r} (working directory {str(Path.cwd())!r})")
    return path


def _name_in(source: object) -> str:
    if isinstance(source, str) and _URL.match(source):
        return PurePosixPath(unquote(urlsplit(source).path)).name
    return str(source) if isinstance(source, str | os.PathLike) else ""
