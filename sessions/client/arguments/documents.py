"""Classifies the source of `add_knowledge` (a file, bytes, a URL or text) and reads files.

Files are read here because the worker may be on another machine: it gets the bytes, never a path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sessions.errors import BadRequest, DocumentEmpty, DocumentTooLarge
from sessions.protocol.text import is_encodable

SUFFIXES: Final = frozenset(
    [
        ".pdf",
        ".docx",
        ".docm",
        ".dotx",
        ".dotm",
        ".html",
        ".htm",
        ".xhtml",
        ".md",
        ".markdown",
        ".mdown",
        ".mkd",
        ".mdx",
        ".txt",
        ".text",
        ".rst",
        ".log",
        ".csv",
        ".tsv",
        ".json",
        ".geojson",
        ".ipynb",
        ".jsonl",
        ".ndjson",
        ".eml",
        ".mht",
        ".mhtml",
    ]
)
Digest = Callable[[bytes], str]
_ADDRESS: Final = re.compile(r"https?://\S+\Z", re.I)
_LONGEST_PATH: Final = 1024
_LONGEST_NAME: Final = 512
_LONGEST_ADDRESS: Final = 8192


@dataclass(frozen=True, slots=True)
class Text:
    """Text to add as it is, even if it looks like a path or a URL."""

    text: str


@dataclass(frozen=True, slots=True)
class Address:
    """A URL from which a worker fetches a document; never a path."""

    url: str


@dataclass(frozen=True, slots=True)
class Source:
    """A document before it is sent.

    Attributes:
        name: of the document; adding another document under the same name replaces it.
        data, text, url: one of them has the content; which one, `origin` says (`data` for "upload").
    """

    name: str
    origin: Literal["upload", "text", "url"]
    data: bytes = b""
    text: str = ""
    url: str = ""


def source_name(value: object) -> str:
    """Check the name of a document, which may be a URL.

    Raises:
        BadRequest: it is not a string of 1 to 8192 characters.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ADDRESS or not is_encodable(value):
        raise BadRequest(f"source {value!r}: use the name of a document, as in list_knowledge()")
    return value


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_source(source: object, name: str | None, limit: int, digest: Digest = _sha256) -> Source:
    """Classify a source, and read it if it is a file.

    Args:
        digest: derives a name for text and bytes without one.

    Raises:
        FileNotFoundError: it looks like a path, and there is no such file. DocumentTooLarge, DocumentEmpty, BadRequest.
    """
    if name is not None and (
        not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not is_encodable(name)
    ):
        raise BadRequest(f"name {name!r}: use a name of 1 to {_LONGEST_NAME} characters")
    if isinstance(source, bytes | bytearray | memoryview):
        return _upload(name or f"document-{digest(bytes(source))[:12]}", bytes(source), limit)
    if isinstance(source, Path):
        return _file(source, name, limit)
    if isinstance(source, Text | Address):
        return _explicit(source, name, limit, digest)
    if not isinstance(source, str) or not is_encodable(source):
        raise BadRequest(f"add_knowledge({type(source).__name__}): pass a path, text, bytes or a URL")
    if _ADDRESS.match(source):
        return Source(name or source, "url", url=source)
    if _may_be_path(source) and Path(source).exists():
        return _file(Path(source), name, limit)
    if _looks_like_file(source):
        hint = "to add this string as text, pass sessions.sources.Text(...)"
        raise FileNotFoundError(f"{_missing(source)}; {hint}")
    return _text(source, name, limit, digest)


def _explicit(source: Text | Address, name: str | None, limit: int, digest: Digest) -> Source:
    """A source whose type the caller chose; never a file."""
    if isinstance(source, Text):
        if not is_encodable(source.text):
            raise BadRequest("the text contains half of a surrogate pair, which cannot be encoded")
        return _text(source.text, name, limit, digest)
    if not _ADDRESS.match(source.url) or not is_encodable(source.url):
        raise BadRequest(f"URL {source.url[:200]!r}: use one that begins with https:// or http://")
    return Source(name or source.url, "url", url=source.url)


def _file(path: Path, name: str | None, limit: int) -> Source:
    if path.is_dir():
        raise BadRequest(
            f"{str(path)!r} is a folder: pass it to add_knowledge as a pathlib.Path, or its files one by one"
        )
    if not path.exists():
        raise FileNotFoundError(_missing(path))
    if path.stat().st_size > limit:  # before it is read
        raise DocumentTooLarge(_too_large(str(path), path.stat().st_size, limit))
    return _upload(name or path.name, path.read_bytes(), limit)


def _upload(name: str, data: bytes, limit: int) -> Source:
    if not data:
        raise DocumentEmpty(f"{name!r} is empty: there is nothing to add")
    if len(data) > limit:
        raise DocumentTooLarge(_too_large(name, len(data), limit))
    return Source(name, "upload", data=data)


def _text(text: str, name: str | None, limit: int, digest: Digest) -> Source:
    if not text.strip():
        raise DocumentEmpty("the text is empty: there is nothing to add")
    data = text.encode()
    if len(data) > limit:
        raise DocumentTooLarge(_too_large(name or "the text", len(data), limit))
    return Source(name or f"text-{digest(data)[:12]}", "text", text=text)


def _missing(path: str | Path) -> str:
    return f"there is no file {str(path)!r} (working directory {str(Path.cwd())!r})"


def _too_large(name: str, size: int, limit: int) -> str:
    hint = "split it, or raise SESSIONFLEET_DOCUMENT_LIMIT_BYTES"
    return f"{name!r} has {size:,} bytes, the limit is {limit:,}: {hint}"


def _may_be_path(text: str) -> bool:
    return (
        len(text) <= _LONGEST_PATH
        and "\n" not in text
        and "\0" not in text
        and len(text.rsplit("/", maxsplit=1)[-1]) <= 255
    )


def _looks_like_file(text: str) -> bool:
    """One line with the suffix of a document's file name."""
    return _may_be_path(text) and Path(text.strip()).suffix.lower() in SUFFIXES
