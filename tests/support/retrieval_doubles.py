"""Doubles of the models of retrieval: vectors of words and their synonyms, and terms without their endings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from sessions.errors import EmbeddingFailed, EmbeddingUnavailable
from workers.retrieval.ports import CosineScale, EmbeddingInfo, SparseVector

_SYNONYMS = {"car": "vehicle", "automobile": "vehicle", "coffee": "drink", "tea": "drink", "espresso": "drink"}
_AXES = 64
_DIMENSION = _AXES + 1


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class WordEmbedding:
    """Adds up one axis for each word, of which synonyms share one; texts that share nothing have the cosine 0.

    With a `base`, every two texts share so much that they have this cosine, as those of some models.
    `down` makes it unavailable; a text with REFUSE in it is never embedded. `embedded` has all documents it was given.
    """

    def __init__(self, name: str = "words", *, base: float = 0.0) -> None:
        self._name = name
        self._base = base
        self._axes: dict[str, int] = {}
        self.down = False
        self.embedded: list[str] = []

    @property
    def info(self) -> EmbeddingInfo:
        return EmbeddingInfo(self._name, _DIMENSION)

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        if any("REFUSE" in text for text in texts):
            raise EmbeddingFailed("this text is refused")
        self.embedded += texts
        return [self._vector(text) for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        return self._vector(text)

    def scale(self, text: str) -> CosineScale:
        return CosineScale.of(self._base, self._base + 0.7 * (1 - self._base), weight=0.5)

    def limit(self) -> None:
        return None

    def _vector(self, text: str) -> list[float]:
        if self.down:
            raise EmbeddingUnavailable("the provider does not answer")
        vector = [0.0] * _AXES
        for word in _words(text):
            axis = self._axes.setdefault(_SYNONYMS.get(word, word), len(self._axes))
            vector[axis % _AXES] += 1.0
        length = math.hypot(*vector) or 1.0
        words = [value / length * math.sqrt(1 - self._base) for value in vector]
        return [*words, math.sqrt(self._base)]


class WordLexical:
    """Counts words; those of one or two letters stand for stop words."""

    def __init__(self) -> None:
        self._terms: dict[str, int] = {}

    def document(self, text: str) -> SparseVector:
        counts = Counter(self._term(word) for word in _words(text) if len(word) > 2)
        return SparseVector(list(counts), [2 * n / (1 + n) for n in counts.values()])

    def query(self, text: str) -> SparseVector:
        terms = list(dict.fromkeys(self._term(word) for word in _words(text) if len(word) > 2))
        return SparseVector(terms, [1.0] * len(terms))

    def words(self, text: str) -> list[frozenset[int]]:
        return [frozenset([term]) for term in self.query(text).indices]

    def _term(self, word: str) -> int:
        return self._terms.setdefault(word, len(self._terms))
