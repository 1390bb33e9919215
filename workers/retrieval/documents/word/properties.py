"""Reads properties of a Word document: elements whose value is an attribute, such as `<w:vanish w:val="0"/>`."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.word.names import qn

VAL: Final = qn("w:val")
_LARGEST: Final = 1_000_000
_OFF: Final = frozenset({"0", "false", "off", "none"})


def value_of(element: Element, name: str) -> str:
    """The value of an element's property; '' if it has none. The name may be a path."""
    found = element.find(name)
    return "" if found is None else found.get(VAL, "")


def has(element: Element, name: str) -> bool:
    """Whether an element has a property that is on."""
    found = element.find(name)
    return found is not None and is_on(found.get(VAL))


def is_on(value: str | None) -> bool:
    """Whether a property with this value is on; one without value is."""
    return value is None or value.lower() not in _OFF


def integer(text: str | None) -> int:
    """A number from the document; 0 if it is none, or absurdly large."""
    try:
        number = int(text or "")
    except ValueError:
        return 0
    return number if abs(number) < _LARGEST else 0
