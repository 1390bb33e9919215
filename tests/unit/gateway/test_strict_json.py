"""JSON as the gateway reads it: what it refuses, with its own messages."""

from __future__ import annotations

import json

import pytest

from sessions.gateway.strict_json import parse_json


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"n": ' + b"9" * 4301 + b"}", "too large a number"),
        (b'{"n": 1e999}', "1e999 is too large a number"),
        (b'{"n": NaN}', "NaN is not a JSON number"),
        (b"[" * 101 + b"]" * 101, "more than 100 levels"),
        (b"[" * 100_000 + b"]" * 100_000, "more than 100 levels"),
        (b'"\x80"', "not UTF-8"),
    ],
    ids=["digits", "exponent", "nan", "deep", "deeper", "bytes"],
)
def test_what_is_refused_is_said_without_words_of_python(raw: bytes, says: str) -> None:
    """Callers read it; what Python would advise (`sys.set_int_max_str_digits`) is none of theirs."""
    with pytest.raises(json.JSONDecodeError, match=says) as caught:
        parse_json(raw)
    assert not any(inner in str(caught.value) for inner in ("sys.", "recursion", "codec"))


def test_the_longest_numbers_are_taken() -> None:
    """Numbers of the largest allowed length are accepted, with or without a sign."""
    assert parse_json(b"[" + b"9" * 4300 + b",-" + b"9" * 4300 + b"]") == [10**4300 - 1, 1 - 10**4300]
