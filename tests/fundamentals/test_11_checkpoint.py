"""A checkpoint is a numbered copy of the state. A fork is a session that continues from this one's past."""

from __future__ import annotations

from tests.support.fleet import Fleet


def test_a_checkpoint_brings_the_state_back(fleet: Fleet) -> None:
    """The conversation stays whole: the history is never rewound."""
    session = fleet.session()
    first = session.save_state({"step": "draft"})
    session.Agent().chat("SAY published")
    session.set_state("step", "published")

    assert session.restore_state(checkpoint=first) == {"step": "draft"}
    assert len(session.history()) == 2


def test_a_fork_shares_the_past_and_nothing_else(fleet: Fleet) -> None:
    """Both continue the same conversation, independently."""
    session = fleet.session()
    session.Agent().chat("SAY once upon a time")
    other = session.fork()
    other.Agent().chat("SAY another end")
    assert [message.text for message in other.history()][1::2] == ["once upon a time", "another end"]
    assert len(session.history()) == 2
