"""One scope's memories in this process: their vectors in a matrix, their terms in an inverted index.

Rows are only appended. Removed and replaced rows are marked as dead, and dropped together when there are many.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from sessions.protocol.filters import Filter
from sessions.store.memory_record import KINDS, LogMark, Memory, StoredMemory, plain_text
from workers.retrieval.memory.metadata import Mask, MetadataIndex
from workers.retrieval.memory.postings import Postings
from workers.retrieval.memory.vectors import Floats, unpack
from workers.retrieval.ports import LexicalModel

_DEAD: Final = 0
_KIND_CODES: Final = {kind: code for code, kind in enumerate(KINDS, start=1)}
_FEW_DEAD: Final = 256


class ScopeIndex:
    """The memories of one scope as of the log position `mark`, ready to be compared with a query."""

    def __init__(self, lexical: LexicalModel) -> None:
        self.mark: LogMark | None = None
        self._lexical = lexical
        self._rows: dict[str, int] = {}
        self._stored: list[StoredMemory | None] = []
        self._kinds = np.zeros(0, dtype=np.int8)
        self._vectors: Floats = np.zeros((0, 0), dtype=np.float32)
        self._embedded: Mask = np.zeros(0, dtype=np.bool_)
        self._missing: dict[str, None] = {}
        self._terms: Postings[int] = Postings()
        self._metadata = MetadataIndex()

    def __len__(self) -> int:
        return len(self._rows)

    # --- change -----------------------------------------------------------------------------------------

    def put(self, stored: StoredMemory) -> None:
        """Add a memory, or replace the one with the same id."""
        row = self._rows.get(stored.memory.id)
        if row is None or self._at(row).digest != stored.digest:
            self.remove(stored.memory.id)
            self._append(replace(stored, vector=None))  # the vector is kept in the matrix
        if stored.vector is not None:
            self.set_vector(stored, stored.vector)

    def set_vector(self, stored: StoredMemory, packed: bytes) -> None:
        """Set the vector of a memory that has none yet, unless it has changed since the vector was computed."""
        row = self._rows.get(stored.memory.id)
        if row is not None and stored.memory.id in self._missing and self._at(row).digest == stored.digest:
            self._set_vector(row, unpack(packed))

    def remove(self, memory_id: str) -> None:
        """Remove a memory, if it exists."""
        row = self._rows.pop(memory_id, None)
        if row is None:
            return
        self._missing.pop(memory_id, None)
        self._stored[row] = None
        self._kinds[row], self._embedded[row] = _DEAD, False
        if len(self._stored) - len(self._rows) > max(_FEW_DEAD, len(self._rows)):
            self._drop_dead_rows()

    def _append(self, stored: StoredMemory) -> None:
        row = len(self._stored)
        self._make_room(row + 1)
        self._stored.append(stored)
        self._rows[stored.memory.id] = row
        self._missing[stored.memory.id] = None
        self._kinds[row] = _KIND_CODES[stored.memory.kind]
        sparse = self._lexical.document(stored.memory.text)
        for term, weight in zip(sparse.indices, sparse.values, strict=True):
            self._terms.add(term, row, weight)
        self._metadata.add(row, stored.memory.metadata)

    def _make_room(self, rows: int) -> None:
        if rows > len(self._kinds):
            more = max(64, rows // 2)
            self._kinds = np.concatenate([self._kinds, np.zeros(more, dtype=np.int8)])
            self._embedded = np.concatenate([self._embedded, np.zeros(more, dtype=np.bool_)])
            self._vectors = np.concatenate([self._vectors, np.zeros((more, self._vectors.shape[1]), np.float32)])

    def _set_vector(self, row: int, vector: Floats) -> None:
        del self._missing[self._at(row).memory.id]
        if not len(vector):
            return
        if not self._vectors.shape[1]:  # the dimension is known from the first vector
            self._vectors = np.zeros((len(self._kinds), len(vector)), dtype=np.float32)
        self._vectors[row], self._embedded[row] = vector, True

    def _drop_dead_rows(self) -> None:
        size = len(self._stored)
        live = np.flatnonzero(self._kinds[:size] != _DEAD)
        moved = np.full(size, -1, dtype=np.int32)
        moved[live] = np.arange(len(live), dtype=np.int32)
        self._stored = [self._stored[row] for row in live]
        self._rows = {self._at(row).memory.id: row for row in range(len(live))}
        self._kinds, self._embedded = self._kinds[live], self._embedded[live]
        self._vectors = self._vectors[live]
        self._terms.move(moved)
        self._metadata.move(moved)

    # --- query ------------------------------------------------------------------------------------------

    def _at(self, row: int) -> StoredMemory:
        stored = self._stored[row]
        assert stored is not None, "dead rows are never accessed"  # noqa: S101
        return stored

    def memory(self, row: int) -> Memory:
        """The memory in a live row."""
        return self._at(row).memory

    def vector(self, row: int) -> Floats | None:
        """The vector of a live row, if it has one."""
        return self._vectors[row] if self._embedded[row] else None

    @property
    def missing(self) -> int:
        """How many memories have no vector yet."""
        return len(self._missing)

    def newest_missing(self, most: int) -> list[StoredMemory]:
        """The newest memories that have no vector yet."""
        return [self._at(self._rows[memory_id]) for memory_id in heapq.nlargest(most, self._missing)]

    def allowed(self, kinds: Sequence[str], filters: Filter) -> Mask:
        """A mask of the rows that have one of these kinds and satisfy the filter; dead rows are excluded."""
        size = len(self._stored)
        mask: Mask = np.isin(self._kinds[:size], [_KIND_CODES[kind] for kind in kinds if kind in _KIND_CODES])
        mask &= self._metadata.mask(filters, size)
        return mask

    def similarities(self, query: Floats | None) -> Floats:
        """The cosine of each row with the query; -inf if the row or the query has no vector."""
        size = len(self._stored)
        if query is None or len(query) != self._vectors.shape[1]:
            return np.full(size, -np.inf, dtype=np.float32)
        # Not `@`, which uses all processors and waits for them if they are busy: the slowest of a hundred searches took
        # 48 ms instead of 13 ms, with four times the CPU time.
        cosines = np.vecdot(self._vectors[:size], query)
        found: Floats = np.where(self._embedded[:size], cosines, np.float32(-np.inf))
        return found

    def duplicates_of(self, text: str, query: Floats | None, threshold: float) -> list[tuple[Memory, float]]:
        """The memories with the same words as the text (similarity 1), or with at least this cosine."""
        wanted, found = plain_text(text), []
        for row, similarity in enumerate(self.similarities(query).tolist()):
            stored = self._stored[row]
            if stored is not None and (similarity >= threshold or plain_text(stored.memory.text) == wanted):
                found.append((stored.memory, 1.0 if plain_text(stored.memory.text) == wanted else similarity))
        return sorted(found, key=lambda one: (one[1], one[0].id), reverse=True)

    def document_frequency(self, term: int) -> int:
        """How many memories have the term."""
        rows, _ = self._terms.get(term)
        return int(np.count_nonzero(self._kinds[rows]))

    def term_weights(self, terms: Mapping[int, float]) -> Floats:
        """For each row, the sum of the terms' weights in it, each times the query's weight of the term."""
        total = np.zeros(len(self._stored), dtype=np.float32)
        for term, query_weight in terms.items():
            rows, weights = self._terms.get(term)
            total[rows] += weights * np.float32(query_weight)
        return total
