"""A loaded ONNX model with its tokenizer: texts to word pieces, word pieces to vectors. Blocking calls only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from tokenizers import Tokenizer

from sessions.errors import EmbeddingFailed
from workers.retrieval.embeddings.files import checked_hash
from workers.retrieval.embeddings.scale import measured_scale
from workers.retrieval.ports import CosineScale, PieceLimit
from workers.retrieval.words.languages import language_of

Pooling = Literal["mean", "cls"]

# How much meaning weighs against words in a language that the model does not know, and how much more in its own.
_LEAST_WEIGHT = 0.1
_MORE_WEIGHT = 0.6
# Characters in a word piece, of texts in an unknown and in a known language: English has 4.1 with an English model,
# German 2.7, Turkish 2.1, Arabic 1.0, and Chinese 0.4.
_LETTERS = 1.8
_WORDS = 3.6
_MANY_LANGUAGES = 100_000  # word pieces
# A tokenizer reads the whole text before truncating. No word piece of prose is nearly as long as this.
_CHARS_PER_PIECE = 32


@dataclass(frozen=True, slots=True)
class OnnxFiles:
    """The files of a model.

    Attributes:
        max_pieces: how many word pieces of a text are read; None for the tokenizer's own limit, or 512.
        pooling: the mean of the pieces' vectors, or the vector of the first piece, as the model was trained.
        model_sha256, tokenizer_sha256: the expected hashes of the files; None to accept any file.
        language: that of the model, if it has only one and it is known; see `words.languages`.
        scale: `unrelated` and `same` of its `CosineScale`; None to measure them with a few questions and answers.
        remedy: what to do about a missing or wrong file, for the error.
    """

    model: Path
    tokenizer: Path
    max_pieces: int | None = None
    pooling: Pooling = "mean"
    model_sha256: str | None = None
    tokenizer_sha256: str | None = None
    language: str | None = None
    scale: tuple[float, float] | None = None
    remedy: str = "put the right file there"


class OnnxEncoder:
    """Can be shared by threads: both libraries release the GIL and keep no state between calls."""

    def __init__(self, files: OnnxFiles) -> None:
        """Read, check and load the files, in about 0.2 s for 23 MB; 15 ms of them are the check.

        Raises:
            EmbeddingFailed: a file is missing, has the wrong hash, or is not a model.
        """
        self.model_sha256 = checked_hash(files.model, files.model_sha256, files.remedy)
        checked_hash(files.tokenizer, files.tokenizer_sha256, files.remedy)
        try:
            self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
            self._session = _session(files.model)
        except Exception as error:
            raise EmbeddingFailed(f"{str(files.model.parent)!r} contains no usable model: {error}") from error
        limit = files.max_pieces or (self._tokenizer.truncation or {}).get("max_length") or 512
        self.limit = PieceLimit(limit - self._tokenizer.num_special_tokens_to_add(False), self._count)
        self._chars = limit * _CHARS_PER_PIECE
        self._pad = (self._tokenizer.padding or {}).get("pad_id", 0)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=limit)
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._pooling = files.pooling
        self.dimension = len(self.vectors(self.pieces([""]))[0])
        self._language = files.language
        self._vocabulary = self._tokenizer.get_vocab_size()
        self._scale = files.scale or measured_scale(lambda texts: self.vectors(self.pieces(texts)))

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """The word pieces of each text, truncated to the model's limit."""
        # The tokenizer rejects lone surrogates, which broken PDFs contain.
        clean = [text[: self._chars].encode(errors="replace").decode() for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(clean)]

    def _count(self, text: str) -> int:
        found = self._tokenizer.encode(text.encode(errors="replace").decode(), add_special_tokens=False)
        return len(found.ids) + sum(len(rest.ids) for rest in found.overflowing)

    def scale(self, text: str) -> CosineScale:
        """What the cosines of a query with this text tell."""
        return CosineScale.of(*self._scale, weight=_LEAST_WEIGHT + _MORE_WEIGHT * self._familiarity(text))

    def _familiarity(self, text: str) -> float:
        """How well the model knows the words of a text, 0 to 1, as its tokenizer tells.

        A model of one language has whole words of it, parts of related languages' words, and only the letters of
        others, if at all. One of many languages has so large a vocabulary that letters are enough.
        """
        clean = text[: self._chars].encode(errors="replace").decode()
        if self._language is not None and language_of(clean) == self._language:
            return 1.0  # whatever names and codes are among its words
        encoding = self._tokenizer.encode(clean, add_special_tokens=False)
        if not encoding.ids:
            return 0.0
        unknown = self._tokenizer.token_to_id("[UNK]")
        pieces = zip(encoding.ids, encoding.offsets, strict=True)
        known = [end - start for piece, (start, end) in pieces if piece != unknown]
        if self._vocabulary >= _MANY_LANGUAGES:
            return len(known) / len(encoding.ids)
        return min(1.0, max(0.0, (sum(known) / len(encoding.ids) - _LETTERS) / (_WORDS - _LETTERS)))

    def vectors(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector of length 1 for each text of a batch, given as its word pieces."""
        ids = np.full((len(batch), max(map(len, batch))), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, pieces in enumerate(batch):
            ids[row, : len(pieces)] = pieces
            mask[row, : len(pieces)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        pooled = self._pooled(np.asarray(hidden, dtype=np.float32), mask.astype(np.float32))
        pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        vectors: list[list[float]] = pooled.tolist()
        return vectors

    def _pooled(self, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if hidden.ndim == 2:  # the model pools by itself
            return hidden
        if self._pooling == "cls":
            return hidden[:, 0].copy()
        # Padding is masked, so that a text has the same vector in any batch, except for rounding.
        total: np.ndarray = np.einsum("bsd,bs->bd", hidden, mask)
        total /= mask.sum(axis=1, keepdims=True)
        return total


def _session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One thread per run: running several batches in parallel is faster, and no idle thread spins.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Both cache memory for the largest batch of each shape: 70 MB more, and measured to be no faster.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
