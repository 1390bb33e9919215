"""What a failed turn has cost, from its journal."""

from __future__ import annotations

from workers.engine.spending import spent


def test_a_step_that_cannot_be_read_does_not_keep_a_turn_from_ending() -> None:
    """A newer worker's step is left out of the sum, instead of raising while the turn is ended."""
    assert spent({"inputs": b"0:20:1", "model:1": b'{"kind":"of tomorrow"}', "tool:1:c:0": b"not JSON"}).requests == 0
