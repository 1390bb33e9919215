"""Which connections are given up while something waits to be sent."""

from __future__ import annotations

import asyncio

import pytest

from sessions.gateway import stall


class Waiting:
    """A transport whose other end reads something now and then: `sizes` are the waiting amounts at each check."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = list(sizes)
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]

    def abort(self) -> None:
        self.aborted.set()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "PATIENCE", 0)


async def test_a_slow_end_is_waited_for_until_it_stops() -> None:
    """Each look finds less, and is the beginning of another time; the first that does not is the end."""
    transport = Waiting(40, 30, 30, 20, 20, 20)
    stall.Stall(transport).begin()  # type: ignore[arg-type]
    await transport.aborted.wait()
    assert transport.sizes == [20]


async def test_what_was_sent_is_not_watched() -> None:
    """An idle connection with nothing left to send is not closed."""
    transport = Waiting(10)
    watched = stall.Stall(transport)  # type: ignore[arg-type]
    watched.begin()
    watched.end()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not transport.aborted.is_set()
