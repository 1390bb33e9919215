"""Separates the metadata at the beginning of a Markdown file (YAML or TOML) from its text."""

from __future__ import annotations

import re
import tomllib
from typing import Final

_YAML: Final = re.compile(r"---[ \t]*\n(?P<lines>(?:.*\n)*?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_TOML: Final = re.compile(r"\+\+\+[ \t]*\n(?P<lines>(?:.*\n)*?)\+\+\+[ \t]*(?:\n|\Z)")
# Each line of metadata is a key, a list item, a comment, empty, or continues the line before. If any line is not, it is
# a text between two rules.
_YAML_LINE: Final = re.compile(r"\s*(?:#.*)?|\s+\S.*|-\s.*|-|[\[\]{}].*|[\w\"'][^:]*:(?:\s.*)?")
_YAML_TITLE: Final = re.compile(r"^title:\s+(?P<title>\S.*)$", re.MULTILINE | re.IGNORECASE)


def split_front_matter(text: str) -> tuple[str, str, str]:
    """The title that the metadata gives, the metadata's lines, and the text below; the first two may be empty."""
    if (found := _YAML.match(text)) and all(map(_YAML_LINE.fullmatch, found["lines"].split("\n"))):
        return _yaml_title(found["lines"]), found["lines"].strip("\n"), text[found.end() :]
    if found := _TOML.match(text):
        try:
            title = tomllib.loads(found["lines"]).get("title")
        except (tomllib.TOMLDecodeError, RecursionError):
            return "", "", text
        return title if isinstance(title, str) else "", found["lines"].strip("\n"), text[found.end() :]
    return "", "", text


def _yaml_title(lines: str) -> str:
    found = _YAML_TITLE.search(lines)
    if not found or found["title"][0] in ">|&*!{[":
        return ""
    title = found["title"].strip()
    if title[0] in "\"'":
        quoted, mark, _ = title[1:].rpartition(title[0])
        return quoted.replace(f"\\{title[0]}", title[0]).replace("''", "'") if mark else ""
    return title.partition(" #")[0].rstrip()
