"""What `add_knowledge` was given: a file, bytes, an address or a text; told apart here, and files are read here.

The worker is on another machine, so a path never travels: its bytes do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sessions.errors import BadRequest, DocumentEmpty, DocumentTooLarge
from sessions.protocol.text import encodes

SUFFIXES: Final = frozenset(
    [
        ".pdf",
        ".docx",
        ".html",
        ".htm",
        ".xhtml",
        ".md",
        ".markdown",
        ".txt",
        ".text",
        ".rst",
        ".log",
        ".csv",
        ".tsv",
        ".json",
        ".jsonl",
        ".ndjson",
    ]
)
Digest = Callable[[bytes], str]
_ADDRESS: Final = re.compile(r"https?://\S+\Z", re.I)
_LONGEST_PATH: Final = 1024
_LONGEST_NAME: Final = 512
_LONGEST_ADDRESS: Final = 8192


@dataclass(frozen=True, slots=True)
class Text:
    """Words to add as they are, though they may look like a path or an address."""

    text: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where a worker is to fetch a document; never a path."""

    url: str


@dataclass(frozen=True, slots=True)
class Source:
    """A document before it is sent.

    Attributes:
        name: what it is called from then on; the same name again replaces it.
        data: its bytes, of a file or as given; text, url: likewise, where it is one of those.
    """

    name: str
    origin: Literal["upload", "text", "url"]
    data: bytes = b""
    text: str = ""
    url: str = ""


def source_name(value: object) -> str:
    """What a document can be called: by its sender, or after its address.

    Raises:
        BadRequest: it cannot.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ADDRESS or not encodes(value):
        raise BadRequest(f"source {value!r}: give the name of a document, as list_knowledge() has it")
    return value


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_source(given: object, name: str | None, limit: int, digest: Digest = _sha256) -> Source:
    """Tell what was given, and read it if it is a file.

    Args:
        digest: makes the name of what has none.

    Raises:
        FileNotFoundError: it looks like a file, and there is none. DocumentTooLarge, DocumentEmpty, BadRequest.
    """
    if name is not None and (
        not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not encodes(name)
    ):
        raise BadRequest(f"name {name!r}: give the document a name of 1 to {_LONGEST_NAME} characters")
    if isinstance(given, bytes | bytearray | memoryview):
        return _upload(name or f"document-{digest(bytes(given))[:12]}", bytes(given), limit)
    if isinstance(given, Path):
        return _file(given, name, limit)
    if isinstance(given, Text | Address):
        return _said(given, name, limit, digest)
    if not isinstance(given, str) or not encodes(given):
        raise BadRequest(f"add_knowledge({type(given).__name__}): give a path, a text, bytes or an address")
    if _ADDRESS.match(given):
        return Source(name or given, "url", url=given)
    if _may_be_path(given) and Path(given).exists():
        return _file(Path(given), name, limit)
    if _looks_like_file(given):
        hint = "to add these words as a text, give them as bytes with name='….txt'"
        raise FileNotFoundError(f"{_missing(given)}; {hint}")
    return _text(given, name, limit, digest)


def _said(given: Text | Address, name: str | None, limit: int, digest: Digest) -> Source:
    """What says itself what it is; no file is looked for."""
    if isinstance(given, Text):
        if not encodes(given.text):
            raise BadRequest("the text has half of a surrogate pair in it, which no encoding takes")
        return _text(given.text, name, limit, digest)
    if not _ADDRESS.match(given.url) or not encodes(given.url):
        raise BadRequest(f"address {given.url[:200]!r}: give one that begins with https:// or http://")
    return Source(name or given.url, "url", url=given.url)


def _file(path: Path, name: str | None, limit: int) -> Source:
    if path.is_dir():
        raise BadRequest(f"{str(path)!r} is a folder: add its files one by one, or as a list")
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
    hint = "send it in parts, or set SESSIONFLEET_DOCUMENT_LIMIT_BYTES"
    return f"{name!r} has {size:,} bytes, the limit is {limit:,}: {hint}"


def _may_be_path(text: str) -> bool:
    return (
        len(text) <= _LONGEST_PATH
        and "\n" not in text
        and "\0" not in text
        and len(text.rsplit("/", maxsplit=1)[-1]) <= 255
    )


def _looks_like_file(text: str) -> bool:
    """One line that ends as the names of documents do."""
    return _may_be_path(text) and Path(text.strip()).suffix.lower() in SUFFIXES
