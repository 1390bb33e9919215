"""Groups texts of similar length into batches, so that little computation is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """The indexes of the texts in batches, shortest texts first.

    Args:
        lengths: the length of each text in word pieces.
        budget: the maximum size of a batch: its number of texts times the length of the longest. A longer text is a
            batch of its own.
    """
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[number] > budget:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
