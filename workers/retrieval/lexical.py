"""BM25 vectors by the engine's own tokenizer and stemmer, so that embedded and server index speak the same terms.

The index multiplies in the inverse document frequencies; what is made here depends on one text alone.
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
    """The LexicalModel on qdrant-edge. It holds no state of its texts; threads may share it."""

    def __init__(self, *, language: str = "english", average_length: float = 128.0) -> None:
        """Load the engine's tokenizer.

        Args:
            language: whose stop words and endings are dropped; texts of other languages are found by their words as
                they are written.
            average_length: of a chunk, in terms; longer ones weigh a little less.
        """
        from qdrant_edge import Bm25, Bm25Config, TokenizerType  # noqa: PLC0415

        def model(tokenizer: TokenizerType) -> Bm25:
            return Bm25(Bm25Config(tokenizer=tokenizer, language=language, avg_len=average_length, ascii_folding=True))

        # The multilingual tokenizer parts unspaced scripts into words, but drops every number that stands alone
        # (version 0.9 finds neither '4021' nor '3.11'): so it helps where it must and nowhere else.
        self._spaced = model(TokenizerType.Word)
        self._unspaced = model(TokenizerType.Multilingual)

    def document(self, text: str) -> SparseVector:
        """Of a text to be found: its terms with their saturated frequencies. A text of stop words has none."""
        text = _clean(text)
        weights = _weights(self._spaced.embed_document(text))
        if _UNSPACED.search(text):
            weights = _weights(self._unspaced.embed_document(text)) | weights
        return _vector(weights)

    def query(self, text: str) -> SparseVector:
        """Of what is looked for: each term once, with weight 1. A query of stop words has none."""
        text = _clean(text)
        weights = _weights(self._spaced.embed_query(text))
        if _UNSPACED.search(text):
            weights = _weights(self._unspaced.embed_query(text)) | weights
        return _vector(weights)


def _clean(text: str) -> str:
    """Half a surrogate pair (a cut emoji) is no Unicode; the engine would refuse the whole text for it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _weights(vector: EdgeVector) -> dict[int, float]:
    return dict(zip(vector.indices, vector.values, strict=True))


def _vector(weights: dict[int, float]) -> SparseVector:
    indices = sorted(weights)
    return SparseVector(indices, [weights[index] for index in indices])
