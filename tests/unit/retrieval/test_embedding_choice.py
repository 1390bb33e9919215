"""Which embedding model a name means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sessions.errors import EmbeddingFailed, TurnConfigurationError
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.embeddings.minilm import MINILM_INFO, _files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    (made / "model.onnx").symlink_to(_files().model)
    shutil.copy(_files().tokenizer, made / "tokenizer.json")
    return made


@pytest.mark.parametrize("name", [None, "minilm"])
def test_the_default_is_the_one_that_comes_with_the_install(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key alone selects no paid model."""
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    assert resolve_embedding_model(name).info == MINILM_INFO


@pytest.mark.parametrize("name", ["", "MiniLM-L6", ":model", "openai:"])
def test_an_unknown_name_tells_what_there_is(name: str) -> None:
    """The error lists the models of all three kinds."""
    with pytest.raises(TurnConfigurationError, match=r"'minilm'.*'openai:text-embedding-3-small'.*fastembed:<dir"):
        resolve_embedding_model(name)


async def test_an_unknown_provider_tells_which_there_are() -> None:
    """The error is raised with the first text, or in `prepare`."""
    with pytest.raises(TurnConfigurationError, match=r"'opnai:x'.*cohere.*openai.*voyageai"):
        await resolve_embedding_model("opnai:x").prepare()


async def test_a_missing_key_is_named() -> None:
    """The error has the name that the provider uses."""
    with pytest.raises(TurnConfigurationError, match="OPENAI_API_KEY"):
        await resolve_embedding_model("openai:text-embedding-3-small").prepare()


async def test_a_directory_of_ones_own_is_a_model(directory: Path) -> None:
    """Its id has its name and its file's hash; it reads as much of a text as its tokenizer says."""
    mine, default = resolve_embedding_model(f"fastembed:{directory}"), resolve_embedding_model()
    info = await mine.prepare()
    assert (info.id, info.dimension) == (f"fastembed:mine@{MINILM_INFO.id[-8:]}", 384)
    assert mine.info == info
    assert await mine.embed_query("the same") == pytest.approx(await default.embed_query("the same"))
    read = "hello " * 126  # the file of the tokenizer says 128
    assert await mine.embed_query(read) == pytest.approx(await mine.embed_query(read + "world"), abs=1e-4)
    await mine.close()
    await default.close()


async def test_a_directory_can_say_that_the_first_piece_counts(directory: Path) -> None:
    """As sentence-transformers writes it down, and as models like BGE are trained."""
    mean = resolve_embedding_model(f"fastembed:{directory}")
    of_mean = await mean.embed_query("the same")
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    first = resolve_embedding_model(f"fastembed:{directory}")
    assert await first.embed_query("the same") != pytest.approx(of_mean, abs=0.01)
    await mean.close()
    await first.close()


def test_a_directory_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    """The model is not searched for elsewhere."""
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TurnConfigurationError, match=r"has no model\.onnx\. Name"):
        resolve_embedding_model(f"fastembed:{tmp_path}")


async def test_a_damaged_file_of_a_directory_is_named(directory: Path) -> None:
    """The error is ours, not a library's."""
    (directory / "tokenizer.json").write_text("no JSON")
    model = resolve_embedding_model(f"fastembed:{directory}")
    with pytest.raises(EmbeddingFailed, match="mine' contains no usable model"):
        await model.embed_query("hello")
    await model.close()


async def test_before_it_was_prepared_the_dimension_is_not_guessed(directory: Path) -> None:
    """This applies to models that do not come with the installation."""
    for name in (f"fastembed:{directory}", "openai:x"):
        with pytest.raises(EmbeddingFailed, match=r"prepare\(\)"):
            _ = resolve_embedding_model(name).info
