"""Renews all leases of this process, from a thread of its own, so that a busy event loop does not look dead.

A turn whose lease the store refuses to renew is stopped at once. If the store is unreachable, a turn is stopped when
its lease expires by this process's clock. The exception is a turn that runs a tool or has a finished step to write: it
runs on, and takes its lease back when the store answers again, unless another worker has had the session meanwhile.

Leases are not renewed while the event loop has not moved for `stall_limit` seconds, nor for a turn that is long past
its deadline.
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
from workers.lease.held_turn import LOSS_REASONS, HeldTurn, StopReason
from workers.lease.lease_clock import lease_time

_log = get_logger(__name__)
_DEADLINE_SLACK: Final = 30.0


class Heartbeat:
    """The leases that this process holds, and the thread that renews them."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._held: dict[str, HeldTurn] = {}
        self._loop_moved = time.monotonic()
        self._stopping = threading.Event()
        # With a short timeout, a store that accepts connections but never answers does not keep this thread from
        # noticing that leases expire.
        self._store: Any = sync_store(settings, name="sessionfleet-heartbeat", patience=max(0.3, settings.lease / 3))
        self._thread = threading.Thread(target=self._run, name="sessionfleet-heartbeat", daemon=True)

    @property
    def held(self) -> list[HeldTurn]:
        """The turns that run now."""
        return list(self._held.values())

    def hold(self, held: HeldTurn) -> None:
        """Start renewing this lease."""
        self._held[held.nonce] = held

    def let_go(self, held: HeldTurn) -> None:
        """Stop renewing this lease."""
        self._held.pop(held.nonce, None)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        self._thread.join(timeout=5)
        self._store.close()

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.lease / 3):
            self._loop.call_soon_threadsafe(self._note_loop_moved)
            due = [held for held in self.held if self._to_be_renewed(held)]
            try:
                if due and not self._stalled():
                    self._renew(due)
            except Exception as error:  # noqa: BLE001 - no error may end this thread while the process holds leases
                _log.warning("leases_not_renewed", leases=len(due), error=repr(error))
                for held in due:
                    held.renewal_failed()
            self._stop_expired()

    def _note_loop_moved(self) -> None:
        self._loop_moved = time.monotonic()

    def _stalled(self) -> bool:
        seconds = time.monotonic() - self._loop_moved
        if seconds > self._settings.stall_limit:
            _log.error(
                "event_loop_stalled",
                seconds=round(seconds, 1),
                hint="a tool or hook blocks the event loop; other workers will take over its turns",
            )
            return True
        return False

    def _to_be_renewed(self, held: HeldTurn) -> bool:
        """Whether the turn still needs its lease. A turn that ignored its deadline must not keep it for ever."""
        return time.monotonic() < held.deadline + _DEADLINE_SLACK and held.stop_reason not in LOSS_REASONS

    def _renew(self, due: list[HeldTurn]) -> None:
        sent = lease_time()
        calls = [(held, held.turn.part, self._renewal(held)) for held in due]
        pipe = self._store.pipeline(transaction=False)
        for _, _, call in calls:  # a cluster's pipeline refuses the method `evalsha`, but not the command
            pipe.execute_command(*call.command)
        replies = pipe.execute(raise_on_error=False)
        for (held, part, call), reply in zip(calls, replies, strict=True):
            unknown = isinstance(reply, NoScriptError)
            answer = self._store.execute_command(*call.command_with_text) if unknown else reply
            self._apply_reply(held, part, answer if isinstance(answer, Exception) else call.read(answer), sent)

    def _renewal(self, held: HeldTurn) -> ScriptCall[Renewed]:
        lease_ms = int(self._settings.lease * 1000)
        return renew_lease(held.keys.pair, lease=held.turn.lease, lease_ms=lease_ms, turn=held.turn.part)

    def _apply_reply(self, held: HeldTurn, part: str, reply: Renewed | Exception, sent: float) -> None:
        if isinstance(reply, Exception):
            _log.warning("lease_not_renewed", turn=held.turn_id, error=repr(reply))
            held.renewal_failed()
        elif reply is Renewed.LOST:
            self._stop(held, part, held.loss_reason)
        else:
            held.lease_renewed(sent + self._settings.lease)
            if reply is Renewed.CANCEL:
                self._stop(held, part, StopReason.CANCELLED)

    def _stop_expired(self) -> None:
        for held in self.held:
            if held.expired:
                self._stop(held, held.turn.part, held.loss_reason, expired=True)

    def _stop(self, held: HeldTurn, part: str, reason: StopReason, *, expired: bool = False) -> None:
        def stop() -> None:
            # Between the renewal and this call the turn may have ended, the session's next turn may have started, or
            # the lease may have been renewed.
            current = self._held.get(held.nonce) is held and held.turn.part == part and not held.concluding
            if not current or held.stop_reason is reason or (expired and not held.expired):
                return
            if expired and reason is StopReason.STORE_UNREACHABLE and held.outlasts_outage:
                self._keep(held)
            else:
                _log.warning("turn_stopped", why=reason.value, turn=held.turn_id, attempt=held.turn.attempt)
                held.stop(reason)

        self._loop.call_soon_threadsafe(stop)

    def _keep(self, held: HeldTurn) -> None:
        if not held.kept_in_outage:
            hint = "it continues if no other worker takes the session"
            _log.warning("turn_kept_in_outage", turn=held.turn_id, hint=hint)
        held.kept_in_outage = True
