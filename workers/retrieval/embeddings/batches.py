"""Which texts go through the model together: those of like length, so that little of it works on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """The numbers of the texts in batches, shortest texts first.

    Args:
        lengths: of each text, in word pieces.
        budget: of a batch: how many texts times the length of its longest. A longer text goes alone.
    """
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[number] > budget:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
