"""`examples/delegation.py`, as a reader runs it, against two worker processes with the offline model."""

from __future__ import annotations

from tests.integration.test_examples import EXAMPLES, run
from tests.integration.test_team_example import offline
from tests.support.fleet import Fleet

__all__ = ["offline"]


def test_the_example_of_delegation(offline: Fleet) -> None:
    """A writer asks a researcher, who asks a librarian, and a critic; the usage includes all of them."""
    said = run(offline, EXAMPLES / "delegation.py")
    assert "asks Researcher\nask_Researcher said: ask_Librarian: " in said
    assert "asks Critic\nask_for_advice said: " in said
    assert "Classic of Tea" in said
    assert "requests of all agents: 7" in said
