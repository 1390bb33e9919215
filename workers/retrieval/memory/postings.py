"""An inverted index: for each key (a term, or a metadata value) the rows that have it, and its weight in each row."""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from workers.retrieval.memory.vectors import Floats

Rows = npt.NDArray[np.int32]
Key = TypeVar("Key", bound=Hashable)


class Postings(Generic[Key]):
    """The lists of all keys. A list contains a row at most once, and only grows until `move` drops rows."""

    def __init__(self) -> None:
        self._lists: dict[Key, tuple[array[int], array[float]]] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._lists

    def add(self, key: Key, row: int, weight: float = 1.0) -> None:
        """Add a row to the key's list."""
        rows, weights = self._lists.setdefault(key, (array("i"), array("f")))
        rows.append(row)
        weights.append(weight)

    def get(self, key: Key) -> tuple[Rows, Floats]:
        """The rows that have the key, and the key's weights in them."""
        rows, weights = self._lists.get(key, (array("i"), array("f")))
        # Copies, because an `array` cannot grow while numpy has a view of it.
        return np.array(rows, dtype=np.int32), np.array(weights, dtype=np.float32)

    def move(self, to: Rows) -> None:
        """Renumber the rows: row i becomes `to[i]`, and is dropped if that is -1."""
        for key in list(self._lists):
            rows, weights = self.get(key)
            kept = to[rows] >= 0
            if kept.any():
                self._lists[key] = array("i", to[rows[kept]].tobytes()), array("f", weights[kept].tobytes())
            else:
                del self._lists[key]
