"""Embedding models of providers: in order, of length 1, in requests they take, with errors that say what may pass."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator

import pytest

from sessions.errors import EmbeddingFailed, EmbeddingUnavailable
from tests.support.openai_server import OpenAIServer, fake_vector
from tests.support.waiting import await_until
from workers.retrieval.embeddings.provider import ProviderEmbeddingModel


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    started = OpenAIServer()
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setenv("OPENAI_BASE_URL", started.url)
    yield started
    started.shutdown()
    started.server_close()


@pytest.fixture
async def model(server: OpenAIServer) -> AsyncIterator[ProviderEmbeddingModel]:
    made = ProviderEmbeddingModel("openai:small")
    yield made
    await made.close()


async def test_vectors_come_in_order_and_have_length_1(model: ProviderEmbeddingModel) -> None:
    """The provider's vectors have other lengths."""
    texts = [f"text {number}" for number in range(5)]
    vectors = await model.embed_documents(texts)
    assert all(math.hypot(*vector) == pytest.approx(1) for vector in vectors)
    assert vectors == [pytest.approx([value / 2 for value in fake_vector(text)]) for text in texts]
    assert await model.embed_query("text 3") == vectors[3]


async def test_the_dimension_is_learnt_once(model: ProviderEmbeddingModel, server: OpenAIServer) -> None:
    """It is learnt with a text of one word, or with the first text."""
    assert (await model.prepare()).dimension == 8
    assert (model.info.id, model.info.dimension) == ("openai:small", 8)
    await model.prepare()
    assert len(server.embedded) == 1


async def test_many_texts_go_in_several_requests(model: ProviderEmbeddingModel, server: OpenAIServer) -> None:
    """Within what providers take, by number and by size; no text is missing and none moves."""
    texts = [f"text {number}" for number in range(300)] + [f"{number} " + "long " * 1000 for number in range(60)]
    vectors = await model.embed_documents(texts)
    assert vectors[299] == await model.embed_query("text 299")
    assert len(vectors) == len(texts)
    assert max(map(len, server.embedded)) == 128
    assert max(sum(map(len, texts)) for texts in server.embedded) <= 100_000
    assert await model.embed_documents([]) == []


async def test_what_no_provider_takes_is_not_sent(model: ProviderEmbeddingModel, server: OpenAIServer) -> None:
    """Empty texts, half characters, and texts beyond all limits."""
    await model.embed_documents(["", "half a pair \ud83d", "x" * 100_000])
    assert server.embedded == [[" ", "half a pair ?", "x" * 6_000]]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_what_may_pass_is_unavailable(model: ProviderEmbeddingModel, status: int) -> None:
    """Another try may succeed later."""
    with pytest.raises(EmbeddingUnavailable, match="'openai:small' cannot answer now"):
        await model.embed_query(f"STATUS {status}")


@pytest.mark.parametrize(
    "answer",
    [
        ("text/html", b"<html>Sign in</html>"),
        ("application/json", b"<html>Sign in</html>"),
        ("application/json", b'{"error": {"message": "busy"}}'),
        ("application/json", b'{"data": []}'),
        ("application/json", b'{"data": [{"embedding": "x"}]}'),
        ("application/json", b"[]"),
        ("application/json", b"null"),
        ("text/plain", b""),
    ],
)
async def test_an_answer_that_is_something_else_is_unavailable(
    model: ProviderEmbeddingModel, server: OpenAIServer, answer: tuple[str, bytes]
) -> None:
    """A 200 with a proxy's page, an error object or nothing says nothing about the text: the request is repeated."""
    server.instead = answer
    with pytest.raises(EmbeddingUnavailable, match="'openai:small' cannot answer now"):
        await model.embed_query("INSTEAD")
    assert len(await model.embed_query("a")) == 8


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_what_will_not_pass_has_failed(model: ProviderEmbeddingModel, status: int) -> None:
    """Another try cannot mend a wrong key or name."""
    with pytest.raises(EmbeddingFailed, match=r"'openai:small' failed.*so it was asked"):
        await model.embed_documents([f"STATUS {status}"])


async def test_a_provider_that_is_away_is_unavailable(model: ProviderEmbeddingModel, server: OpenAIServer) -> None:
    """Nothing listens at its address."""
    server.shutdown()
    server.server_close()
    with pytest.raises(EmbeddingUnavailable):
        await model.embed_query("hello")


async def test_a_provider_that_never_answers_is_unavailable(server: OpenAIServer) -> None:
    """It is given up after the timeout."""
    hasty = ProviderEmbeddingModel("openai:small", timeout=0.2)
    with pytest.raises(EmbeddingUnavailable, match="TimeoutError"):
        await hasty.embed_query("SLOW")
    await hasty.close()


async def test_a_cancelled_caller_hangs_up(model: ProviderEmbeddingModel, server: OpenAIServer) -> None:
    """And learns that it was cancelled, not that the provider failed."""
    waiting = asyncio.create_task(model.embed_query("SLOW"))
    await await_until(lambda: _true(server.embedded), description="the request arrived")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await await_until(lambda: _true(server.hung_up), description="the connection is closed")


async def test_it_can_be_used_again_after_it_was_closed(model: ProviderEmbeddingModel) -> None:
    """It works on a new loop after the first one has ended."""
    await model.embed_query("a")
    await model.close()
    assert len(await model.embed_query("a")) == 8


async def _true(value: object) -> bool:
    return bool(value)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a", "FEWER"], "1 vectors for 2 texts"),
        (["ZERO"], r"length 0\.0"),
        (["a", "WIDER"], "9 numbers after some of 8"),
    ],
)
async def test_an_answer_that_makes_no_sense_has_failed(
    model: ProviderEmbeddingModel, texts: list[str], said: str
) -> None:
    """No invalid vector reaches a collection."""
    with pytest.raises(EmbeddingFailed, match=said):
        await model.embed_documents(texts)


async def test_a_model_that_changes_its_dimension_is_refused(model: ProviderEmbeddingModel) -> None:
    """It happens if another model is served under the same name."""
    await model.embed_query("a")
    with pytest.raises(EmbeddingFailed, match="9 numbers after some of 8"):
        await model.embed_query("WIDER")
