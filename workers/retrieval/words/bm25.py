"""BM25 vectors made with qdrant-edge's tokenizers and stemmers, so that embedded and server index have the same terms.

    text -> normalised -> by script -> stems of its language + codes -> weights

A document has one term for each word: its stem in the text's language. A query has every form that a document may have:
the stems of its own language, those of English (which were the only ones in version 1 of this rule, so that documents
of that time are found), and, if its language cannot be told from so few words, those of all languages.

The index multiplies the vectors by the inverse document frequencies; the vectors here depend on one text only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from workers.retrieval.ports import SparseVector
from workers.retrieval.words.codes import asked_codes, codes
from workers.retrieval.words.languages import ENGLISH, LATIN, UNSPACED, by_script, language_of
from workers.retrieval.words.spellings import normalised, respelled

if TYPE_CHECKING:
    from qdrant_edge import Bm25
    from qdrant_edge import SparseVector as EdgeVector

_K: Final = 1.2  # BM25's saturation,
_B: Final = 0.75  # and its discount for length
_RESPELLED: Final = 0.5  # the weight of a query's other spellings, which may be other words: poet is not a Pöt


class Bm25Model:
    """The LexicalModel based on qdrant-edge. It is stateless, so threads can share it."""

    def __init__(self, *, average_length: float = 128.0) -> None:
        """Load the engine's tokenizer.

        Args:
            average_length: the average length of a chunk in terms; longer chunks get slightly lower weights.
        """
        self._average_length = average_length
        _engine(ENGLISH)  # fails now if the package is not installed

    def document(self, text: str) -> SparseVector:
        """The vector of a text: its terms with their saturated frequencies. Empty for a text of stop words."""
        text = normalised(text)
        parts = by_script(text)
        counts: Counter[int] = Counter(_counts(language_of(parts[""]) or ENGLISH, parts[""]))
        for script, words in parts.items():
            if script:
                counts.update(_counts(script, words))
        if found := codes(parts[""]):
            counts.update(_counts(ENGLISH, " ".join(found)))
        length = counts.total()
        floor = _K * (1 - _B + _B * length / self._average_length)
        return _vector({term: count * (_K + 1) / (count + floor) for term, count in counts.items()})

    def query(self, text: str) -> SparseVector:
        """The vector of a query: each form of a word once, with weight 1. Empty for a query of stop words."""
        text = normalised(text)
        weights: dict[int, float] = {}
        for word in _words(text):
            weights = dict.fromkeys(word.respelled, _RESPELLED) | weights | dict.fromkeys(word.forms, 1.0)
        codes_ = " ".join(asked_codes(by_script(text)[""]))
        return _vector(weights | dict.fromkeys(_terms((ENGLISH,), codes_), 1.0))

    def words(self, text: str) -> list[frozenset[int]]:
        """The words of a query, each as all of its forms."""
        return list(dict.fromkeys(frozenset(word.forms | word.respelled) for word in _words(normalised(text))))


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of a query, as its terms."""

    forms: set[int]
    respelled: set[int]


def _words(text: str) -> Iterator[_Word]:
    """The words of a query that are no stop words."""
    for script, part in by_script(text).items():
        if script == UNSPACED:
            yield from (_Word({term}, set()) for term in sorted(_terms((script,), part)))
            continue
        language = script or language_of(part)
        forms = LATIN if language is None else (language, ENGLISH)
        for word in part.split():
            if _terms((language or ENGLISH,), word):
                yield _Word(_terms(forms, word), _terms(forms, " ".join(respelled(word))))


def _terms(languages: Iterable[str], text: str) -> set[int]:
    return {term for language in languages for term in _engine(language).embed_query(text).indices}


def _counts(language: str, text: str) -> dict[int, int]:
    """How often each term occurs. Without its discount for length, the engine's weight tells."""
    weights = _weights(_engine(language).embed_document(text))
    return {term: max(1, round(weight * _K / (_K + 1 - weight))) for term, weight in weights.items()}


@cache
def _engine(language: str) -> Bm25:
    from qdrant_edge import Bm25, Bm25Config, TokenizerType  # noqa: PLC0415

    # The tokenizer for unspaced scripts drops standalone numbers (version 0.9 finds neither '4021' nor '3.11').
    kind = TokenizerType.Multilingual if language == UNSPACED else TokenizerType.Word
    stems = ENGLISH if language == UNSPACED else language
    return Bm25(Bm25Config(tokenizer=kind, language=stems, ascii_folding=True, k=_K, b=0.0))


def _weights(vector: EdgeVector) -> dict[int, float]:
    return dict(zip(vector.indices, vector.values, strict=True))


def _vector(weights: Mapping[int, float]) -> SparseVector:
    indices = sorted(weights)
    return SparseVector(indices, [weights[index] for index in indices])
