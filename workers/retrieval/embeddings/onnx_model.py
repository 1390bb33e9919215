"""An embedding model that runs in this process, on threads of its own; nothing is loaded before the first text."""

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
from workers.retrieval.ports import EmbeddingInfo

if TYPE_CHECKING:  # numpy, onnxruntime and tokenizers come with the first text
    from workers.retrieval.embeddings.onnx_encoder import OnnxEncoder, OnnxFiles

T = TypeVar("T")

# How many texts are sorted by length at a time, and held as word pieces.
_WINDOW = 256


class OnnxEmbeddingModel:
    """Runs texts through an ONNX file.

    Queries have threads of their own: one that comes while a long document is embedded shares the processor with
    it, and does not stand behind it.
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
        """Make a model that costs nothing yet.

        Args:
            find: says where the files are; called in a thread, at the first text.
            name: of the model, for errors; also its id, with the start of its file's hash, where `info` is None.
            info: where it is known beforehand.
            threads: how many processors documents may take; None for half of them, at most 4.
            batch_pieces: how many word pieces go through the model at once, padding included. More is no faster
                (measured: 5,000 a second on one core from 64 to 2,048) and takes memory.
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
            EmbeddingFailed: the files were not read yet; `prepare()` reads them.
        """
        if self._info is None:
            raise EmbeddingFailed(f"the dimension of {self._name!r} is not known before its first text or prepare()")
        return self._info

    async def prepare(self) -> EmbeddingInfo:
        """Load the model now rather than at the first text.

        Raises:
            MissingExtra: the packages are not installed. EmbeddingFailed: the files are not what they must be.
        """
        await self._run(self._documents, self._loaded)
        return self.info

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in their order. Long calls take turns with each other, batch by batch."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _WINDOW):
            vectors += await self._embed_window(texts[start : start + _WINDOW])
        return vectors

    async def embed_query(self, text: str) -> list[float]:
        """The vector of what is looked for."""
        return await self._run(self._queries, self._query_vector, text)

    async def close(self) -> None:
        """Give the threads back; what still waits for one is cancelled."""
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
