"""Text from elsewhere, made safe to show: characters that a terminal would execute are written as escapes.

A message, an answer, a document's name or a log line may contain control sequences. Printed unchanged, they can set
the window's title, write to the clipboard, clear the screen, or reverse the order of the text.
"""

from __future__ import annotations

import re
from typing import Final

# C0 except tab and line feed, DEL and C1; the controls of bidirectional text; line and paragraph separators; characters
# without a shape, such as tags, which hide text from people; and halves of surrogate pairs, which cannot be encoded.
# The joiners U+200C and U+200D stay: emoji and several scripts need them.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    r"""The text with each unsafe character as an escape such as `\x1b` or `\u202e`; lines and tabs stay."""
    return _UNSAFE.sub(lambda found: _escape(found[0]), text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    r"""As `printable`, with line feeds and tabs as `\n` and `\t`: the text cannot imitate a line of ours."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def printable_json(document: str) -> str:
    r"""A JSON document with each unsafe character as JSON's own escape (`\u001b`): it reads back as the same value."""
    return _UNSAFE.sub(lambda found: _json_escape(found[0]), document)


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
