"""Names of elements and attributes in Word documents, as ElementTree spells them: '{namespace}name'."""

from __future__ import annotations

from typing import Final

_TRANSITIONAL: Final = "http://schemas.openxmlformats.org/"
_STRICT: Final = "http://purl.oclc.org/ooxml/"
_SPACES: Final = {
    "a": f"{_TRANSITIONAL}drawingml/2006/main",
    "c": f"{_TRANSITIONAL}drawingml/2006/chart",
    "dgm": f"{_TRANSITIONAL}drawingml/2006/diagram",
    "m": f"{_TRANSITIONAL}officeDocument/2006/math",
    "mc": f"{_TRANSITIONAL}markup-compatibility/2006",
    "r": f"{_TRANSITIONAL}officeDocument/2006/relationships",
    "rel": f"{_TRANSITIONAL}package/2006/relationships",
    "v": "urn:schemas-microsoft-com:vml",
    "w": f"{_TRANSITIONAL}wordprocessingml/2006/main",
    "wp": f"{_TRANSITIONAL}drawingml/2006/wordprocessingDrawing",
}
# Strict documents have the same elements in namespaces of their own.
_OF_STRICT: Final = {
    f"{_STRICT}wordprocessingml/main": _SPACES["w"],
    f"{_STRICT}officeDocument/math": _SPACES["m"],
    f"{_STRICT}officeDocument/relationships": _SPACES["r"],
    f"{_STRICT}drawingml/main": _SPACES["a"],
    f"{_STRICT}drawingml/chart": _SPACES["c"],
    f"{_STRICT}drawingml/diagram": _SPACES["dgm"],
    f"{_STRICT}drawingml/wordprocessingDrawing": _SPACES["wp"],
}


def qn(name: str) -> str:
    """The name of an element or attribute: `qn("w:p")`."""
    prefix, _, local = name.partition(":")
    return f"{{{_SPACES[prefix]}}}{local}"


def names(prefix: str, *local: str) -> list[str]:
    """Names of one namespace."""
    return [f"{{{_SPACES[prefix]}}}{each}" for each in local]


def is_strict(name: str) -> bool:
    """Whether a name is in a namespace of strict documents."""
    return name.startswith(f"{{{_STRICT}")


def transitional(name: str) -> str:
    """A name of a strict document as others have it."""
    if not is_strict(name):
        return name
    space, _, local = name[1:].partition("}")
    return f"{{{_OF_STRICT.get(space, space)}}}{local}"
