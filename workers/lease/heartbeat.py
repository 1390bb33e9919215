"""Renews all leases of this process, from a thread of its own, so that a busy event loop does not look dead.

A lease that the store says is lost stops its turn at once. A store that cannot be reached stops a turn at the end
of its lease by this process's own clock, unless a tool runs or a finished step waits to be written: then the lease is
taken back when the store is there again, if nobody else has had the session meanwhile. A loop that has not moved for
`stall_limit` seconds is not kept alive, and neither is a turn past its deadline.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Final

from redis.exceptions import NoScriptError

from broker_config.redis_clients import sync_store
from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.store.binding import ScriptCall
from sessions.store.transitions.leases import Renewed, renew_lease
from workers.lease.held_turn import LOSSES, HeldTurn, Stop
from workers.lease.lease_clock import lease_time

_log = get_logger(__name__)
_DEADLINE_SLACK: Final = 30.0


class Heartbeat:
    """The leases of this process, and the thread that renews them."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._held: dict[str, HeldTurn] = {}
        self.idle = asyncio.Event()  # set while no turn runs
        self.idle.set()
        self._ticked = time.monotonic()
        self._stopping = threading.Event()
        # A store that accepts and never answers must not keep this thread from seeing that a lease ends.
        self._store: Any = sync_store(settings, name="sessionfleet-heartbeat", patience=max(0.3, settings.lease / 3))
        self._thread = threading.Thread(target=self._run, name="sessionfleet-heartbeat", daemon=True)

    @property
    def held(self) -> list[HeldTurn]:
        """The turns that run now."""
        return list(self._held.values())

    def hold(self, turn: HeldTurn) -> None:
        """Keep this lease alive."""
        self._held[turn.nonce] = turn
        self.idle.clear()

    def let_go(self, turn: HeldTurn) -> None:
        """Leave this lease alone from now on."""
        self._held.pop(turn.nonce, None)
        if not self._held:
            self.idle.set()

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def close(self) -> None:
        """Stop renewing."""
        self._stopping.set()
        self._thread.join(timeout=5)
        self._store.close()

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.lease / 3):
            self._loop.call_soon_threadsafe(self._tick)
            due = [turn for turn in self.held if self._deserves(turn)]
            try:
                if due and not self._stalled():
                    self._renew(due)
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread must not end before its leases
                _log.warning("leases_not_renewed", leases=len(due), error=repr(error))
                for turn in due:
                    turn.not_renewed()
            self._stop_expired()

    def _tick(self) -> None:
        self._ticked = time.monotonic()

    def _stalled(self) -> bool:
        still = time.monotonic() - self._ticked
        if still > self._settings.stall_limit:
            _log.error(
                "event_loop_stalled",
                seconds=round(still, 1),
                hint="a tool or hook blocks the loop; its turns go to other workers",
            )
            return True
        return False

    def _deserves(self, turn: HeldTurn) -> bool:
        """A turn that was given up does not; nor one far past its deadline, which does not stop when told to."""
        return time.monotonic() < turn.deadline + _DEADLINE_SLACK and turn.stop not in LOSSES

    def _renew(self, due: list[HeldTurn]) -> None:
        sent = lease_time()
        calls = [(turn, turn.turn.part, self._renewal(turn)) for turn in due]
        pipe = self._store.pipeline(transaction=False)
        for _, _, call in calls:  # by its name: a cluster's pipeline has EVALSHA, but refuses the method of that name
            pipe.execute_command(*call.command)
        replies = pipe.execute(raise_on_error=False)
        for (turn, part, call), reply in zip(calls, replies, strict=True):
            unknown = isinstance(reply, NoScriptError)
            answer = self._store.execute_command(*call.command_with_text) if unknown else reply
            self._heed(turn, part, answer if isinstance(answer, Exception) else call.read(answer), sent)

    def _renewal(self, turn: HeldTurn) -> ScriptCall[Renewed]:
        lease_ms = int(self._settings.lease * 1000)
        return renew_lease(turn.keys.pair, lease=turn.turn.lease, lease_ms=lease_ms, turn=turn.turn.part)

    def _heed(self, turn: HeldTurn, part: str, answer: Renewed | Exception, sent: float) -> None:
        if isinstance(answer, Exception):
            _log.warning("lease_not_renewed", turn=turn.turn_id, error=repr(answer))
            turn.not_renewed()
        elif answer is Renewed.LOST:
            self._stop(turn, part, turn.lost)
        else:
            turn.renewed(sent + self._settings.lease)
            if answer is Renewed.CANCEL:
                self._stop(turn, part, Stop.CANCELLED)

    def _stop_expired(self) -> None:
        for turn in self.held:
            if turn.expired:
                self._stop(turn, turn.turn.part, turn.lost, expired=True)

    def _stop(self, turn: HeldTurn, part: str, why: Stop, *, expired: bool = False) -> None:
        def stop() -> None:
            # Since the question the turn may have ended, the session's next one begun, or the lease been renewed.
            current = self._held.get(turn.nonce) is turn and turn.turn.part == part and not turn.concluding
            if not current or turn.stop is why or (expired and not turn.expired):
                return
            if expired and why is Stop.UNREACHABLE and turn.outlasts_outage:
                if not turn.kept:
                    _log.warning("turn_kept_in_outage", turn=turn.turn_id, hint="it goes on if nobody else takes it")
                turn.kept = True
            else:
                _log.warning("turn_stopped", why=why.value, turn=turn.turn_id, attempt=turn.turn.attempt)
                turn.abort(why)

        self._loop.call_soon_threadsafe(stop)
