"""The transitions of the fleet: its workers, what they rescue, the models they may call, and the gateway's callers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sessions.store.binding import transition


@dataclass(frozen=True, slots=True)
class Noted:
    """The report counts; and the digests of the models whose calls are being held back."""

    models: tuple[str, ...]


@transition
def note_worker(*, worker: str, info: str, alive_ms: int, consumed: Mapping[str, int]) -> Noted:
    """Report that a worker is alive, or (empty info) that it leaves."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The groups of partitions that this worker looks after now."""

    groups: tuple[int, ...]


@transition
def claim_rescue(*, worker: str, claim_ms: int, groups: int, alive_ms: int) -> Claimed:
    """Claim this worker's share of the partitions."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Sessions that are due: the session's key, and the queue for its wake-up if that is lost.

    The queue is empty if a schedule of the session is due.
    """

    now_ms: int
    due: tuple[tuple[str, str], ...]

    @property
    def to_wake(self) -> tuple[tuple[str, str], ...]:
        """The sessions that wait for a worker, and the queue."""
        return tuple((ref, queue) for ref, queue in self.due if queue)

    @property
    def ticking(self) -> tuple[str, ...]:
        """The sessions with a schedule that is due."""
        return tuple(ref for ref, queue in self.due if not queue)


@transition
def rescue_partition(*, most: int) -> Looked:
    """Look at the sessions of partitions that are due."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may go on."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The caller made too many requests a minute."""

    wait_ms: int


@dataclass(frozen=True, slots=True)
class Concurrency:
    """The caller has too many open requests."""

    wait_ms: int


@transition
def admit_request(
    *, request: str, rate: int, concurrency: int, reservation_ms: int, ended: Sequence[str]
) -> Admitted | Rate | Concurrency:
    """Admit a request if its caller's limits allow it."""


class RequestsRenewed(StrEnum):
    """The reservations count on."""

    RENEWED = "renewed"


@transition
def renew_request(*, reservation_ms: int, requests: Sequence[str]) -> RequestsRenewed:
    """Renew the reservations of open requests."""


class RequestReleased(StrEnum):
    """The reservation no longer counts."""

    RELEASED = "released"


@transition
def end_request(*, request: str) -> RequestReleased:
    """Release a request's reservation."""


@dataclass(frozen=True, slots=True)
class Closed:
    """No worker asks this model for so long."""

    wait_ms: int


@transition
def close_model(*, model: str, pause_ms: int) -> Closed:
    """Hold back the fleet's calls to a model, because its provider refused one for its rate limit."""


@dataclass(frozen=True, slots=True)
class Free:
    """Nothing holds this model's calls back any more."""


@dataclass(frozen=True, slots=True)
class Started:
    """This call may start."""


@dataclass(frozen=True, slots=True)
class Held:
    """This call may not start before so much time has passed."""

    wait_ms: int


@transition
def admit_model_call(*, model: str, turn: str) -> Free | Started | Held:
    """Ask whether a model may be called, after its provider has refused calls for its rate limit."""


@dataclass(frozen=True, slots=True)
class Queued:
    """The turn's call may start after so much time."""

    wait_ms: int


@transition
def queue_for_model(*, model: str, turn: str, first: bool, jitter: float, patience_ms: int) -> Queued:
    """Give a turn a place among those that wait for a model."""
