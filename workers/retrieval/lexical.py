"""BM25 vectors made with qdrant-edge's tokenizer and stemmer, so that embedded and server index have the same terms.

The index multiplies them by the inverse document frequencies; the vectors here depend on one text only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workers.retrieval.ports import SparseVector

if TYPE_CHECKING:
    from qdrant_edge import Bm25
    from qdrant_edge import SparseVector as EdgeVector

# Chinese, Japanese, Thai, Lao, Burmese and Khmer put no spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


class Bm25Model:
    """The LexicalModel based on qdrant-edge. It is stateless, so threads can share it."""

    def __init__(self, *, language: str = "english", average_length: float = 128.0) -> None:
        """Load the engine's tokenizer.

        Args:
            language: the language of stop words and stemming; words of other languages match in their exact form only.
            average_length: the average length of a chunk in terms; longer chunks get slightly lower weights.
        """
        from qdrant_edge import Bm25, Bm25Config, TokenizerType  # noqa: PLC0415

        def model(tokenizer: TokenizerType) -> Bm25:
            return Bm25(Bm25Config(tokenizer=tokenizer, language=language, avg_len=average_length, ascii_folding=True))

        # The multilingual tokenizer divides unspaced scripts into words, but drops standalone numbers (version 0.9
        # finds neither '4021' nor '3.11'), so it is used for unspaced scripts only.
        self._spaced = model(TokenizerType.Word)
        self._unspaced = model(TokenizerType.Multilingual)

    def document(self, text: str) -> SparseVector:
        """The vector of a text: its terms with their saturated frequencies. Empty for a text of stop words."""
        text = _clean(text)
        weights = _weights(self._spaced.embed_document(text))
        if _UNSPACED.search(text):
            weights = _weights(self._unspaced.embed_document(text)) | weights
        return _vector(weights)

    def query(self, text: str) -> SparseVector:
        """The vector of a query: each term once, with weight 1. Empty for a query of stop words."""
        text = _clean(text)
        weights = _weights(self._spaced.embed_query(text))
        if _UNSPACED.search(text):
            weights = _weights(self._unspaced.embed_query(text)) | weights
        return _vector(weights)


def _clean(text: str) -> str:
    """Replace lone surrogates (half an emoji), for which the engine would reject the whole text."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _weights(vector: EdgeVector) -> dict[int, float]:
    return dict(zip(vector.indices, vector.values, strict=True))


def _vector(weights: dict[int, float]) -> SparseVector:
    indices = sorted(weights)
    return SparseVector(indices, [weights[index] for index in indices])
