"""Resolves the name of an embedding model."""

from __future__ import annotations

from sessions.errors import TurnConfigurationError
from workers.retrieval.embeddings.directory import FASTEMBED, directory_model
from workers.retrieval.embeddings.minilm import minilm
from workers.retrieval.embeddings.multilingual import MULTILINGUAL, MultilingualE5
from workers.retrieval.embeddings.provider import ProviderEmbeddingModel
from workers.retrieval.ports import EmbeddingModel

MINILM = "minilm"


def resolve_embedding_model(
    name: str | None = None, *, threads: int | None = None, timeout: float = 60.0
) -> EmbeddingModel:
    """The model with this name. Nothing is loaded before its first text.

    Args:
        name: `provider:model`, `multilingual-e5-small`, or `fastembed:<directory>`; None or `minilm` for the built-in
            model, even if API keys are set: a key alone never selects a paid model.
        threads: how many processors a local model may use for documents.
        timeout: the timeout of one request to a provider, in seconds.

    Raises:
        TurnConfigurationError: there is no such model.
    """
    if name is None or name == MINILM:
        return minilm(threads=threads)
    if name == MULTILINGUAL:
        return MultilingualE5(threads=threads)
    if name.startswith(FASTEMBED):
        return directory_model(name, threads=threads)
    provider, colon, model = name.partition(":")
    if not (provider and colon and model):
        raise TurnConfigurationError(
            f"embedding model {name!r} is not known: use {MINILM!r}, which is built in, {MULTILINGUAL!r}, "
            f"'provider:model' such as 'openai:text-embedding-3-small', or '{FASTEMBED}<directory>' with model.onnx "
            f"and tokenizer.json"
        )
    return ProviderEmbeddingModel(name, timeout=timeout)
