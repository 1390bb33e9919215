"""The passages that a search returns. A text that several documents have is one of them, and names all of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from workers.retrieval.ports import Hit


def alike(hits: Iterable[Hit]) -> list[list[Hit]]:
    """Groups of hits with equal text under equal headings, each group and its hits in the order of the hits."""
    groups: dict[tuple[str, str], list[Hit]] = {}
    for hit in hits:
        groups.setdefault((hit.payload["text"], hit.payload.get("heading") or ""), []).append(hit)
    return list(groups.values())


def found_passage(group: Sequence[Hit]) -> dict[str, Any]:
    """The result for a group of equal hits: the best one, and where else its text was found."""
    best, *others = group
    payload = best.payload
    return {
        "text": payload["text"],
        "score": best.score,
        "similarity": best.similarity,
        "source": best.source,
        "chunk": payload["number"],
        "page": payload.get("page"),
        "heading": payload.get("heading"),
        "start": payload["start"],
        "end": payload["end"],
        "metadata": payload.get("metadata") or {},
        "id": best.id,
        "also_in": [_place(other) for other in others],
    }


def _place(hit: Hit) -> dict[str, Any]:
    return {
        "source": hit.source,
        "chunk": hit.payload["number"],
        "page": hit.payload.get("page"),
        "metadata": hit.payload.get("metadata") or {},
        "id": hit.id,
    }
