"""Calls that mypy must refuse: `make check` reads this file, and an ignored error that is none is an error itself.

Derived sync methods (`sessions.client.blocking`) keep the types of their async forms; Lua scripts
(`sessions.store.transitions`) have the types of their declarations.
"""

from __future__ import annotations

from typing import assert_type

from sessions import Event, Operation, Session, Turn
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions.turns import nudge_turn, watch_turn


def wrong(session: Session, turn: Turn) -> None:
    """Never called."""
    session.get_state(1)  # type: ignore[arg-type]
    session.get_state("key", defalt=1)  # type: ignore[call-arg]
    session.add_memory()  # type: ignore[call-arg]
    session.chat("Hi", polic="reject")  # type: ignore[call-arg]
    session.Agent().submit("Hi", timeout="soon")  # type: ignore[arg-type]
    turn.result("soon")  # type: ignore[arg-type]
    assert_type(session.checkpoints(), list[int])
    assert_type(session.submit_knowledge("text"), Operation)
    assert_type(session.fork(), Session)
    for event in turn.events():
        assert_type(event, Event)


def wrong_scripts(scripts: ScriptRunner) -> None:
    """Never called: a script takes the arguments of its header, and its reply is a union to be told apart."""
    watch_turn(("s", "p"), turn="t", nonce="n", watch="readers")  # type: ignore[call-arg]
    watch_turn(("s", "p"), turn="t", nonce="n", watch="reader", on=True)  # type: ignore[arg-type]
    woken = scripts.start(nudge_turn(("s", "p"), turn="t")).result()
    print(woken.queue)  # type: ignore[union-attr]
