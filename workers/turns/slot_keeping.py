"""Whether a session goes on with its next turn in the slot that it has, or gives the slot to others."""

from __future__ import annotations

import time

from broker_config.settings import Settings
from sessions.errors import BackendError
from sessions.store.rota import Rota
from workers.lease.held_turn import HeldTurn


async def may_go_on(held: HeldTurn, settings: Settings, rota: Rota) -> bool:
    """Whether the commit may start the session's next turn under this lease.

    Other tenants come first if it is their turn, and other sessions after a number of turns or seconds.
    """
    seconds = time.monotonic() - held.leased_since
    if held.served + 1 >= settings.turns_per_lease or seconds >= settings.seconds_per_lease:
        return False
    if held.served == 0 and held.turn.behind == 0:
        return True  # there is hardly a next turn, so nobody is asked
    uncharged, held.charged = held.served - held.charged, held.served
    try:
        return await rota.keeps(held.queue, held.keys, uncharged)
    except BackendError:
        return True  # the commit waits until the store is back
