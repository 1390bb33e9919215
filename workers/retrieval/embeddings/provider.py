"""Embedding models of providers and of OpenAI-compatible servers, through pydantic-ai's Embedder."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Literal, get_args

from sessions.errors import EmbeddingFailed, EmbeddingUnavailable, MissingExtra, TurnConfigurationError, TurnFailed
from workers.retrieval.ports import CosineScale, EmbeddingInfo

if TYPE_CHECKING:  # pydantic-ai is imported with the first text
    from pydantic_ai.embeddings import Embedder
    from pydantic_ai.providers import Provider

# The maximum number of texts in one request. All other providers accept at least 128, OpenAI 2,048.
_REQUEST_TEXTS = {"cohere": 96, "google": 100, "google-cloud": 100}
_MOST_TEXTS = 128
# About 25,000 tokens in one request: OpenAI accepts 300,000, but the smallest limits of providers are close to this.
_REQUEST_CHARS = 100_000
_REQUESTS_AT_ONCE = 4
# OpenAI rejects texts of more than 8,192 tokens. This has fewer in any script, and is seven times the longest chunk.
_TEXT_CHARS = 6_000


class ProviderEmbeddingModel:
    """`provider:model`, with the provider's API key and base URL from the usual environment variables."""

    def __init__(self, name: str, *, timeout: float = 60.0) -> None:
        """Create a model; nothing is imported or connected before the first text.

        Args:
            name: a name such as `openai:text-embedding-3-small`.
            timeout: the timeout of one request in seconds, including the retries of the provider's client.
        """
        self._name = name
        self._timeout = timeout
        self._texts = _REQUEST_TEXTS.get(name.partition(":")[0], _MOST_TEXTS)
        self._slots = asyncio.Semaphore(_REQUESTS_AT_ONCE)
        self._open = AsyncExitStack()
        self._embedder: Embedder | None = None
        self._info: EmbeddingInfo | None = None

    @property
    def info(self) -> EmbeddingInfo:
        """Which model this is.

        Raises:
            EmbeddingFailed: the provider has not been asked yet; call `prepare()` first.
        """
        if self._info is None:
            raise EmbeddingFailed(f"the dimension of {self._name!r} is not known before its first text or prepare()")
        return self._info

    async def prepare(self) -> EmbeddingInfo:
        """Determine the dimension by embedding one word, unless it is known.

        Raises:
            EmbeddingUnavailable, EmbeddingFailed: as for texts.
            TurnConfigurationError: the provider is unknown, or its key or package is missing.
        """
        if self._info is None:
            await self.embed_query("dimension")
        return self.info

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in the same order. Many texts are sent in several concurrent requests."""
        requests = self._requests([_clean(text) for text in texts])
        answers = await asyncio.gather(*(self._ask(request, "document") for request in requests))
        return [vector for answer in answers for vector in answer]

    async def embed_query(self, text: str) -> list[float]:
        """The vector of a search query. Some models embed queries and documents differently."""
        return (await self._ask([_clean(text)], "query"))[0]

    def scale(self, text: str) -> CosineScale:
        """The usual scale: that of models whose cosines are near 0 for unrelated texts."""
        return CosineScale()

    def limit(self) -> None:
        """None: they read thousands of tokens."""

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._open.aclose()
        self._embedder = None

    def _requests(self, texts: Sequence[str]) -> list[list[str]]:
        requests: list[list[str]] = []
        room = 0
        for text in texts:
            if not requests or len(requests[-1]) == self._texts or len(text) > room:
                requests.append([])
                room = _REQUEST_CHARS
            requests[-1].append(text)
            room -= len(text)
        return requests

    async def _ask(self, texts: list[str], kind: Literal["query", "document"]) -> list[list[float]]:
        embedder = await self._connected()
        async with self._slots if kind == "document" else nullcontext():  # queries do not wait for documents
            try:
                async with asyncio.timeout(self._timeout):
                    result = await embedder.embed(texts, input_type=kind)
            except Exception as error:
                raise _translated(error, self._name) from error
        return self._checked(result.embeddings, len(texts))

    async def _connected(self) -> Embedder:
        if (embedder := self._embedder) is None:
            embedder, provider = _embedder(self._name)
            self._embedder = embedder
            await self._open.enter_async_context(provider)
        return embedder

    def _checked(self, vectors: Sequence[Sequence[float]], wanted: int) -> list[list[float]]:
        if not vectors:
            raise EmbeddingUnavailable(f"embedding model {self._name!r} cannot answer now: it sent no vectors")
        if len(vectors) != wanted:
            raise EmbeddingFailed(f"embedding model {self._name!r} returned {len(vectors)} vectors for {wanted} texts")
        known = self._info or EmbeddingInfo(self._name, len(vectors[0]))
        if other := {len(vector) for vector in vectors} - {known.dimension}:
            raise EmbeddingFailed(
                f"embedding model {self._name!r} returned vectors of {other.pop()} numbers after "
                f"some of {known.dimension}; all vectors of a collection must come from one model"
            )
        normalised = [self._normalised(vector) for vector in vectors]
        self._info = known
        return normalised

    def _normalised(self, vector: Sequence[float]) -> list[float]:
        length = math.hypot(*vector)
        if not 0 < length < math.inf:
            raise EmbeddingFailed(f"embedding model {self._name!r} returned a vector of length {length!r}")
        return [value / length for value in vector]


def _clean(text: str) -> str:
    """The text as it can be sent: without lone surrogates, which UTF-8 cannot encode, and not empty."""
    return text[:_TEXT_CHARS].encode(errors="replace").decode() or " "


def _embedder(name: str) -> tuple[Embedder, Provider[Any]]:
    try:
        from pydantic_ai.embeddings import Embedder, infer_embedding_model  # noqa: PLC0415 - 85 MB
        from pydantic_ai.providers import infer_provider  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"embedding model {name!r} needs the package {error.name!r}: `pip install 'sessionfleet[worker]'`"
        ) from error
    try:
        provider = infer_provider(name.partition(":")[0])
        model = infer_embedding_model(name, provider_factory=lambda _: provider)
        return Embedder(model, settings={"truncate": True}), provider
    except Exception as error:
        why = str(error).partition(" To try Pydantic AI")[0]  # the rest is advice for trying it without a key
        raise TurnConfigurationError(
            f"embedding model {name!r} cannot be used on this worker: {why} - packages and API keys must be set up for "
            f"the worker; the providers are {', '.join(_provider_names())}"
        ) from error


def _provider_names() -> list[str]:
    from pydantic_ai.embeddings import KnownEmbeddingModelName, OpenAIEmbeddingsCompatibleProvider  # noqa: PLC0415

    known = {name.partition(":")[0] for name in get_args(KnownEmbeddingModelName.__value__)}
    compatible = {name for union in get_args(OpenAIEmbeddingsCompatibleProvider) for name in get_args(union.__value__)}
    return sorted(known | compatible)


def _translated(error: Exception, name: str) -> Exception:
    """Classify the error like one of a turn's model: transient errors are worth a retry."""
    from workers.engine.failures import classify  # noqa: PLC0415 - it loads pydantic-ai
    from workers.engine.ports import TransientModelError  # noqa: PLC0415

    found = classify(error)
    if isinstance(found, TransientModelError):
        return EmbeddingUnavailable(
            f"embedding model {name!r} cannot answer now: {found}", retry_after=found.retry_after
        )
    if type(found) is TurnFailed:
        # Not an error of the provider: its client could not read the answer, such as a proxy's page or an error object.
        kind = type(error).__name__
        return EmbeddingUnavailable(f"embedding model {name!r} cannot answer now: it sent something else ({kind})")
    return EmbeddingFailed(f"embedding model {name!r} failed: {found}")
