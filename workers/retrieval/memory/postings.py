"""Inverted lists: for each key (a term, a value of metadata) the rows that have it, and its weight in each."""

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
    """The lists of all keys. A row stands once in a list, and lists only grow, until `move` drops rows from them."""

    def __init__(self) -> None:
        self._lists: dict[Key, tuple[array[int], array[float]]] = {}

    def add(self, key: Key, row: int, weight: float = 1.0) -> None:
        """The row has the key."""
        rows, weights = self._lists.setdefault(key, (array("i"), array("f")))
        rows.append(row)
        weights.append(weight)

    def get(self, key: Key) -> tuple[Rows, Floats]:
        """The rows that have the key, and its weights there."""
        rows, weights = self._lists.get(key, (array("i"), array("f")))
        # Copies: an array that is looked at cannot grow.
        return np.array(rows, dtype=np.int32), np.array(weights, dtype=np.float32)

    def move(self, to: Rows) -> None:
        """Give each row the number that stands in its place in `to`; -1 drops it."""
        for key in list(self._lists):
            rows, weights = self.get(key)
            kept = to[rows] >= 0
            if kept.any():
                self._lists[key] = array("i", to[rows[kept]].tobytes()), array("f", weights[kept].tobytes())
            else:
                del self._lists[key]
