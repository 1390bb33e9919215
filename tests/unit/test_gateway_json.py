"""JSON as the gateway reads and writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessions.gateway.strict_json import DEEPEST, parse_json, written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "é🚂"}, '{"a":"é🚂"}'),
        (["é\ud800"], '["\\u00e9\\ud800"]'),
        ({"n": [float("nan"), float("-inf"), 1.5]}, '{"n":[null,null,1.5]}'),
        (["\udcff", float("inf")], '["\\udcff",null]'),
        (2**80, str(2**80)),
    ],
)
def test_what_is_written_is_json_in_utf8(value: Any, text: str) -> None:
    """This holds for whatever a model or tool returned."""
    assert written(value) == text
    json.loads(text.encode())


@pytest.mark.parametrize("raw", ["NaN", "[Infinity]", "1e999", "{", "", '"\\ud800', "[" * 5000, "9" * 5000])
def test_what_is_no_json_is_refused(raw: str) -> None:
    """All of them raise one error, so that one response covers them."""
    with pytest.raises(json.JSONDecodeError):
        parse_json(raw.encode())


@pytest.mark.parametrize("raw", ['{"a":1,"a":1}', '{"b":[{"a":1,"c":2,"a":3}]}', '{"a":1,"\\u0061":2}'])
def test_an_object_with_a_key_twice_is_refused(raw: str) -> None:
    """Readers do not agree on which value counts; the error names the key."""
    with pytest.raises(json.JSONDecodeError, match="'a' occurs twice"):
        parse_json(raw.encode())


@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_values_are_as_deep_as_they_can_be_written(opens: str, closes: str) -> None:
    """One level more is refused; many lists side by side are not."""
    assert parse_json((opens * DEEPEST + "1" + closes * DEEPEST).encode())
    with pytest.raises(json.JSONDecodeError, match="levels"):
        parse_json((opens * (DEEPEST + 1) + "1" + closes * (DEEPEST + 1)).encode())
    assert len(parse_json(("[" + "[]," * 500 + "[]]").encode())) == 501


def test_numbers_are_as_they_came() -> None:
    """Integers of any size and every digit of a float survive."""
    assert parse_json(b"[123456789012345678901234567890, 0.1, -0.0, 1e22, 1.7976931348623157e308]") == [
        123456789012345678901234567890,
        0.1,
        -0.0,
        1e22,
        1.7976931348623157e308,
    ]
