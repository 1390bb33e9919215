"""Metadata filters on a copy of a scope: sets of rows, from an inverted index of the values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sessions.protocol.filters import (
    AllOf,
    AnyOf,
    Compares,
    Exists,
    Filter,
    HasValue,
    Not,
    elements,
    value_text,
)
from workers.retrieval.memory.postings import Postings, Rows

Mask = npt.NDArray[np.bool_]

_PRESENT: Final = ""
"""Stands for the presence of a name; no JSON text is empty."""


class MetadataIndex:
    """Which rows have which values of which name."""

    def __init__(self) -> None:
        self._rows: Postings[tuple[str, str]] = Postings()
        self._texts: dict[str, set[str]] = {}

    def add(self, row: int, metadata: Mapping[str, Any]) -> None:
        """Add a row, once."""
        for name, value in metadata.items():
            texts = {value_text(element) for element in elements(value)}
            self._texts.setdefault(name, set()).update(texts)
            for text in (_PRESENT, *texts):
                self._rows.add((name, text), row)

    def move(self, to: Rows) -> None:
        """Renumber the rows as `Postings.move` does, and forget values that no row has any more."""
        self._rows.move(to)
        for name, texts in list(self._texts.items()):
            texts.intersection_update(text for text in list(texts) if (name, text) in self._rows)
            if not texts and (name, _PRESENT) not in self._rows:
                del self._texts[name]

    def mask(self, parsed: Filter, size: int) -> Mask:
        """Which of the first `size` rows satisfy a filter. Dead rows may be among them."""
        match parsed:
            case HasValue(name, values):
                return self._having(name, values, size)
            case Exists(name):
                return self._having(name, (_PRESENT,), size)
            case Compares(name):
                # Each value is compared once, however many rows have it.
                accepted = [text for text in self._texts.get(name, ()) if parsed.accepts(json.loads(text))]
                return self._having(name, accepted, size)
            case AllOf(parts):
                mask = np.ones(size, dtype=np.bool_)
                for part in parts:
                    mask &= self.mask(part, size)
                return mask
            case AnyOf(parts):
                mask = np.zeros(size, dtype=np.bool_)
                for part in parts:
                    mask |= self.mask(part, size)
                return mask
            case Not(part):
                return ~self.mask(part, size)

    def _having(self, name: str, texts: Iterable[str], size: int) -> Mask:
        having = np.zeros(size, dtype=np.bool_)
        for text in texts:
            having[self._rows.get((name, text))[0]] = True
        return having
