"""Part numbers, versions, addresses and hexadecimal numbers as one term each, next to the terms of their parts.

By their parts alone, 10.0.0.1 is also 1.0.10.0, and AB-1234/x is not AB1234X.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_JOINED: Final = re.compile(r"(?<![^\W_])[^\W_]+(?:[-._/:][^\W_]+)+")
_DOTTED: Final = re.compile(r"v?(\d+(?:\.\d+)+)", re.IGNORECASE)
_HEX: Final = re.compile(r"(?<![^\W_])(?:0x([0-9a-f]+)|([0-9a-f]+)h)(?![^\W_])", re.IGNORECASE)
_BARE_HEX: Final = re.compile(r"(?<![^\W_])(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{2,16}(?![^\W_])", re.IGNORECASE)
_SEPARATORS: Final = re.compile(r"[-._/:]")
_LONGEST: Final = 64
_DIGIT: Final = re.compile(r"\d")


def codes(text: str) -> list[str]:
    """The codes of a text in the form in which they are indexed: lower case, without separators."""
    return [code for code in _codes(text) if len(code) <= _LONGEST]


def asked_codes(text: str) -> list[str]:
    """Those of a query, which may leave out what marks a hexadecimal number."""
    bare = [f"0x{found.group().lower().lstrip('0')}" for found in _BARE_HEX.finditer(text)]
    return list(dict.fromkeys([*codes(text), *bare]))


def _codes(text: str) -> Iterator[str]:
    for found in _JOINED.finditer(text):
        joined = found.group()
        if not _DIGIT.search(joined):
            continue
        if dotted := _DOTTED.fullmatch(joined):
            numbers = dotted[1].split(".")
            # 3.11 is found in 3.11.7. A letter joins them, since 10.0.0.1 is not the number 10001.
            yield from ("n" + "p".join(numbers[:many]) for many in range(2, len(numbers) + 1))
        else:
            yield _SEPARATORS.sub("", joined).lower()
    for found in _HEX.finditer(text):
        digits = (found[1] or found[2]).lower().lstrip("0")
        if found[1] or _DIGIT.search(digits):  # 'beach' is a word
            yield f"0x{digits}"
