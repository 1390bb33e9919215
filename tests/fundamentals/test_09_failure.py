"""The class of its error says how a turn failed; a transient failure is retried instead."""

from __future__ import annotations

import uuid

import pytest

from sessions.errors import ModelError, TurnFailed
from tests.support.fleet import Fleet


def test_a_failed_turn_raises_and_the_session_goes_on(fleet: Fleet) -> None:
    """The provider refuses the request (400), and would refuse it again: the turn fails."""
    session = fleet.session()
    with pytest.raises(ModelError) as caught:
        session.Agent().chat(f"{uuid.uuid4().hex}\nFAIL 400 1")
    assert isinstance(caught.value, TurnFailed)  # the base class of all ways to end without an answer
    assert session.Agent().chat("SAY hello") == "hello"


def test_a_model_that_is_busy_is_asked_again(fleet: Fleet) -> None:
    """The provider is overloaded (429): the turn keeps its place, and is retried after a pause."""
    turn = fleet.session().Agent().submit(f"{uuid.uuid4().hex}\nFAIL 429 1\nSAY at last")
    assert turn.result(timeout=30) == "at last"
    assert turn.record().retries == 1
