"""JSON of all kinds: one value or many in a file, places on maps, numbers as they were written, and no binary data."""

from __future__ import annotations

import json

import pytest

from workers.retrieval.documents.json_text import read_json, read_json_lines
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.refusal import Refusal

LIMITS = DocumentLimits()


def text(source: str) -> str:
    return "\n\n".join(section.text for section in read_json(source, LIMITS).sections)


@pytest.mark.parametrize(
    "source",
    ['{"a": 1}\n{"a": 2}\n', '{"a":\n  1\n}\n\n{"a":\n  2\n}', '{"a": 1}{"a": 2}', '\x1e{"a": 1}\n\x1e{"a": 2}'],
)
@pytest.mark.parametrize("read", [read_json, read_json_lines])
def test_several_values_in_a_file_are_records(source: str, read) -> None:
    """Many programs write JSON Lines into a `.json`."""
    document = read(source, LIMITS)
    assert (document.kind, [(each.heading, each.text) for each in document.sections]) == (
        "jsonl",
        [("lines 1 to 2", "a: 1\n\na: 2")],
    )


@pytest.mark.parametrize("source", ['{"a": 1} and text', '{"a": 1},\n{"a": 2}', "[1, 2", "{'a': 1}", ""])
def test_what_follows_a_value_must_be_one(source: str) -> None:
    """The error says where it is not."""
    if source:
        with pytest.raises(Refusal, match=r"not valid JSON \(.*line"):
            read_json(source, LIMITS)
    else:
        assert read_json(source, LIMITS).sections == ()


def test_a_map_is_the_properties_of_its_places() -> None:
    """The coordinates of a coast are a thousand passages of numbers; those of a point are kept as written."""
    coast = {"type": "Polygon", "coordinates": [[[13.1, 52.1]] * 2_000]}
    lake = {
        "type": "Feature",
        "id": 7,
        "bbox": [1, 2, 3, 4],
        "properties": {"name": "A", "depth": 3},
        "geometry": coast,
    }
    source = json.dumps({"type": "FeatureCollection", "name": "Lakes", "features": [lake, "POINT"]})
    point = '{"type": "Feature", "properties": null, "geometry": {"type": "Point", "coordinates": [13.40, 52.50]}}'
    expected = "id: 7\nname: A\ndepth: 3\ngeometry: Polygon"
    assert text(source.replace('"POINT"', point)) == (
        f"name: Lakes\n\n{expected}\n\ngeometry.type: Point\ngeometry.coordinates: 13.40, 52.50"
    )
    assert text(json.dumps(lake)) == expected
    assert text(f"{json.dumps(lake)}\n{point}\n").startswith(expected)


def test_a_type_of_another_meaning_is_no_map() -> None:
    """`Feature` and `Point` are words."""
    assert text('{"type": "Feature", "coordinates": "x"}') == "type: Feature\ncoordinates: x"
    assert text('{"type": "Point", "x": 1}') == "type: Point\nx: 1"
    assert text('{"type": ["Feature"], "geometry": 1}') == "type[0]: Feature\ngeometry: 1"


def test_numbers_stay_as_they_were_written() -> None:
    """A list of them is one line; a very long one is cut, and its length is given."""
    assert text('{"a": 1.10, "b": [1e3, 12345678901234567890123], "m": [[1, 2], [3, 4]]}') == (
        "a: 1.10\nb: 1e3, 12345678901234567890123\nm[0]: 1, 2\nm[1]: 3, 4"
    )
    assert text(json.dumps({"vector": [0.5] * 1_536})).endswith("0.5, ... (1,536 numbers)")
    assert text(json.dumps({"arcs": [[[1, 2]] * 60] * 2})) == "arcs: 240 numbers"
    assert text(json.dumps([1] * 1_536)).endswith("1, ... (1,536 numbers)")


def test_several_values_of_one_name_are_kept() -> None:
    """Python would keep the last one."""
    assert text('{"a": 1, "b": 2, "a": 3}') == "a: 1\nb: 2\na (2): 3"


def test_binary_data_is_no_text() -> None:
    """Pictures in Base64 are left out, with or without their address."""
    picture = "aB3/" * 100
    value = {
        "a": f"see data:image/png;base64,{picture} here",
        "b": picture,
        "c": f"data:;base64,{picture}",
        "d": "x" * 300,
    }
    assert text(json.dumps(value)) == f"a: see  here\nd: {'x' * 300}"
