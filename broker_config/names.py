"""Which texts can name a session, a tenant or a knowledge base.

Applications have their own names: phone numbers (`+4915112345678`), Auth0 users (`auth0|5f7c`), Slack threads
(`C024BE91L/1355517523.000005`), names in any alphabet. Keys and URLs percent-encode them, so nearly every character
is allowed. Refused are characters that a person cannot see or tell apart, '~', which separates a session from the id
of its turn, and the path segments '.' and '..', which HTTP clients and proxies resolve.

The set of refused characters is written out instead of taken from Unicode's tables, which differ between versions of
Python: a name that the gateway accepts must be accepted by every worker.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_REFUSED: Final = (
    r"~\u0000-\u0020\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\u3000"
    r"\ufeff\ufff9-\ufffb"
)
LONGEST_ID: Final = 256
LONGEST_BASE: Final = 128
LONGEST_TENANT: Final = 64
RULE: Final = (
    "letters and digits of any alphabet, punctuation and symbols are allowed, but no space, no '~', no control or "
    "invisible character, and no part that is '.' or '..' between slashes"
)
REMEDY: Final = "percent-encode what is not allowed (' ' as '%20', '~' as '%7E'), and then '%' itself as '%25'"


def pattern(longest: int) -> str:
    """The rule as a regular expression for Python and JSON Schema alike (JSON has no half surrogate pairs)."""
    return rf"^(?!(.*/)?\.\.?(/.*)?$)[^{_REFUSED}]{{1,{longest}}}$"


_CHARACTER: Final = re.compile(rf"[{_REFUSED}\ud800-\udfff]")


def name_problem(name: object, longest: int) -> str | None:
    """Why a value cannot be a name; None if it can."""
    if not isinstance(name, str):
        return f"it is {'missing' if name is None else f'of the type {type(name).__name__}'}, pass a str"
    if not name:
        return "it is empty"
    if len(name) > longest:
        return f"it has {len(name)} characters, at most {longest} are allowed; use a hash of it"
    if found := _CHARACTER.search(name):
        return f"the character {_shown(found[0])} at position {found.start() + 1} is not allowed: {RULE}; {REMEDY}"
    if not {".", ".."}.isdisjoint(name.split("/")):
        return f"URLs treat '.' and '..' as folders: {RULE}; write '%2E' for such a dot"
    return None


def _shown(character: str) -> str:
    return f"{character!a} (U+{ord(character):04X} {unicodedata.name(character, 'control character')})"
