"""The stored form of a memory's vector: 16-bit floats, tagged with the model that made them.

A cosine moves by less than 0.001 by the rounding, and a vector takes half the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.retrieval.ports import EmbeddingInfo

Floats = npt.NDArray[np.float32]

NO_VECTOR: Final = b""
"""Noted for a text that the model will never embed, so that nobody tries again."""


def model_tag(info: EmbeddingInfo) -> str:
    """What tells this model's vectors from another's: 16 hex digits."""
    return blake2b(f"{info.id}\0{info.dimension}".encode(), digest_size=8).hexdigest()


def pack(vector: Sequence[float]) -> bytes:
    """A vector as it is stored."""
    return np.asarray(vector, dtype="<f2").tobytes()


def unpack(raw: bytes) -> Floats:
    """A vector from its stored form; an empty one for NO_VECTOR."""
    return np.frombuffer(raw, dtype="<f2").astype(np.float32)
