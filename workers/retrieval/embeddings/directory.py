"""Models in a local directory: `model.onnx` and `tokenizer.json`, in the layout of fastembed and Hugging Face."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sessions.errors import TurnConfigurationError
from workers.retrieval.embeddings.onnx_model import OnnxEmbeddingModel

if TYPE_CHECKING:
    from workers.retrieval.embeddings.onnx_encoder import OnnxFiles

FASTEMBED = "fastembed:"
_MODEL = "model.onnx"
_TOKENIZER = "tokenizer.json"


def directory_model(name: str, *, threads: int | None = None) -> OnnxEmbeddingModel:
    """The model of `fastembed:<directory>`. Its id contains the directory's name and the file's hash.

    Vectors are pooled by the mean, unless sentence-transformers' `1_Pooling/config.json` selects the first token.

    Raises:
        TurnConfigurationError: the directory or one of the files does not exist.
    """
    directory = Path(name.removeprefix(FASTEMBED)).expanduser()
    if missing := [file for file in (_MODEL, _TOKENIZER) if not (directory / file).is_file()]:
        raise TurnConfigurationError(
            f"embedding model {name!r} cannot be used: {str(directory)!r} has no {' and no '.join(missing)}. Name a "
            f"local directory that contains both; nothing is downloaded"
        )
    return OnnxEmbeddingModel(partial(_files, directory), name=FASTEMBED + directory.resolve().name, threads=threads)


def _files(directory: Path) -> OnnxFiles:
    from workers.retrieval.embeddings.onnx_encoder import OnnxFiles  # noqa: PLC0415 - it loads numpy

    pooling = directory / "1_Pooling" / "config.json"
    first = pooling.is_file() and json.loads(pooling.read_text()).get("pooling_mode_cls_token")
    return OnnxFiles(directory / _MODEL, directory / _TOKENIZER, pooling="cls" if first else "mean")
