"""From the name of an embedding model to the model."""

from __future__ import annotations

from sessions.errors import TurnConfigurationError
from workers.retrieval.embeddings.directory import FASTEMBED, directory_model
from workers.retrieval.embeddings.minilm import minilm
from workers.retrieval.embeddings.provider import ProviderEmbeddingModel
from workers.retrieval.ports import EmbeddingModel

MINILM = "minilm"


def resolve_embedding_model(
    name: str | None = None, *, threads: int | None = None, timeout: float = 60.0
) -> EmbeddingModel:
    """The model of this name, which costs nothing before its first text.

    Args:
        name: None or `minilm` for the one that comes with the install, whatever keys are set: a key alone never
            selects a paid model. `provider:model`, or `fastembed:<directory>`.
        threads: how many processors documents may take, of a model that runs here.
        timeout: of one request to a provider, in seconds.

    Raises:
        TurnConfigurationError: there is no such model.
    """
    if name is None or name == MINILM:
        return minilm(threads=threads)
    if name.startswith(FASTEMBED):
        return directory_model(name, threads=threads)
    provider, colon, model = name.partition(":")
    if not (provider and colon and model):
        raise TurnConfigurationError(
            f"embedding model {name!r} is not known: use {MINILM!r}, which comes with the install, 'provider:model' "
            f"such as 'openai:text-embedding-3-small', or '{FASTEMBED}<directory>' with model.onnx and tokenizer.json"
        )
    return ProviderEmbeddingModel(name, timeout=timeout)
