"""Embedding models of providers, and of anything that speaks OpenAI's protocol, through pydantic-ai's Embedder."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Literal, get_args

from sessions.errors import EmbeddingFailed, EmbeddingUnavailable, MissingExtra, TurnConfigurationError
from workers.retrieval.ports import EmbeddingInfo

if TYPE_CHECKING:  # pydantic-ai comes with the first text
    from pydantic_ai.embeddings import Embedder
    from pydantic_ai.providers import Provider

# Texts that one request may carry; all others take 128 at least, OpenAI 2,048.
_REQUEST_TEXTS = {"cohere": 96, "google": 100, "google-cloud": 100}
_MOST_TEXTS = 128
# Together at most 100,000 characters, some 25,000 tokens: OpenAI takes 300,000 tokens, the smallest limits are near.
_REQUEST_CHARS = 100_000
_REQUESTS_AT_ONCE = 4
# OpenAI refuses a text of more than 8,192 tokens. This is fewer in any script, and five times the longest chunk.
_TEXT_CHARS = 6_000


class ProviderEmbeddingModel:
    """`provider:model`, with the provider's key and base URL from the environment under their usual names."""

    def __init__(self, name: str, *, timeout: float = 60.0) -> None:
        """Make a model; nothing is imported or connected before the first text.

        Args:
            name: such as `openai:text-embedding-3-small`.
            timeout: of one request, in seconds, with the retries of the provider's own client.
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
            EmbeddingFailed: the provider was not asked yet; `prepare()` asks.
        """
        if self._info is None:
            raise EmbeddingFailed(f"the dimension of {self._name!r} is not known before its first text or prepare()")
        return self._info

    async def prepare(self) -> EmbeddingInfo:
        """Learn the dimension with a text of one word, unless it is known.

        Raises:
            EmbeddingUnavailable, EmbeddingFailed: as for texts.
            TurnConfigurationError: there is no such provider, or its key or package is missing.
        """
        if self._info is None:
            await self.embed_query("dimension")
        return self.info

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in their order; several requests at once where one is not enough."""
        requests = self._requests([_clean(text) for text in texts])
        answers = await asyncio.gather(*(self._ask(request, "document") for request in requests))
        return [vector for answer in answers for vector in answer]

    async def embed_query(self, text: str) -> list[float]:
        """The vector of what is looked for; some models make another of a question than of a text."""
        return (await self._ask([_clean(text)], "query"))[0]

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
        async with self._slots if kind == "document" else nullcontext():  # a query waits for no document
            try:
                async with asyncio.timeout(self._timeout):
                    result = await embedder.embed(texts, input_type=kind)
            except Exception as error:
                raise _classified(error, self._name) from error
        return self._checked(result.embeddings, len(texts))

    async def _connected(self) -> Embedder:
        if (embedder := self._embedder) is None:
            embedder, provider = _embedder(self._name)
            self._embedder = embedder
            await self._open.enter_async_context(provider)
        return embedder

    def _checked(self, vectors: Sequence[Sequence[float]], wanted: int) -> list[list[float]]:
        if len(vectors) != wanted:
            raise EmbeddingFailed(f"embedding model {self._name!r} gave {len(vectors)} vectors for {wanted} texts")
        known = self._info or EmbeddingInfo(self._name, len(vectors[0]))
        if other := {len(vector) for vector in vectors} - {known.dimension}:
            raise EmbeddingFailed(
                f"embedding model {self._name!r} gave vectors of {other.pop()} numbers after "
                f"some of {known.dimension}; all that a collection holds must be of one model"
            )
        normalised = [self._normalised(vector) for vector in vectors]
        self._info = known
        return normalised

    def _normalised(self, vector: Sequence[float]) -> list[float]:
        length = math.hypot(*vector)
        if not 0 < length < math.inf:
            raise EmbeddingFailed(f"embedding model {self._name!r} gave a vector of length {length!r}")
        return [value / length for value in vector]


def _clean(text: str) -> str:
    """What can be sent: JSON in UTF-8 has no lone surrogates, and providers refuse what is empty."""
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
        why = str(error).partition(" To try Pydantic AI")[0]  # how to play without a key is no help to a worker
        raise TurnConfigurationError(
            f"embedding model {name!r} cannot be used on this worker: {why} - the packages and the environment are the "
            f"worker's; the providers are {', '.join(_provider_names())}"
        ) from error


def _provider_names() -> list[str]:
    from pydantic_ai.embeddings import KnownEmbeddingModelName, OpenAIEmbeddingsCompatibleProvider  # noqa: PLC0415

    known = {name.partition(":")[0] for name in get_args(KnownEmbeddingModelName.__value__)}
    compatible = {name for union in get_args(OpenAIEmbeddingsCompatibleProvider) for name in get_args(union.__value__)}
    return sorted(known | compatible)


def _classified(error: Exception, name: str) -> Exception:
    """As for the turns' models: what may pass is worth another try."""
    from workers.engine.failures import classify  # noqa: PLC0415 - it loads pydantic-ai
    from workers.engine.ports import TransientModelError  # noqa: PLC0415

    found = classify(error)
    if isinstance(found, TransientModelError):
        return EmbeddingUnavailable(
            f"embedding model {name!r} cannot answer now: {found}", retry_after=found.retry_after
        )
    return EmbeddingFailed(f"embedding model {name!r} refused: {found}")
