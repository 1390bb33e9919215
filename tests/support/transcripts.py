"""The search index of transcripts, as tests look at it."""

from __future__ import annotations

from collections.abc import Sequence

from sessions import Session
from sessions.client.transcript import FoundMessage
from sessions.protocol.lanes import TRANSCRIPT
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def settled(fleet: Fleet, *sessions: Session, timeout: float = 60.0) -> None:
    """Wait until the index has followed the histories of these sessions: nothing waits, and nothing runs."""
    with fleet.server.client() as client:
        for session in sessions:
            keys = fleet.client.keys(session.session_id)
            lane = keys.lane(TRANSCRIPT)
            busy = (keys.outbox, lane.mailbox, lane.lease)
            wait_until(
                lambda busy=busy: client.exists(*busy) == 0,  # type: ignore[misc]
                description=f"the index has followed {session.session_id}",
                timeout=timeout,
            )


def texts(found: Sequence[FoundMessage]) -> list[str]:
    """The passages, best first."""
    return [message.text for message in found]
