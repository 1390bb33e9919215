"""One script call next to the model's, and the parts of its reply in which the two are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sessions.store.keys import SessionKeys

NAMES = ("acme:one", "acme:two", "other:one")
KEYS = {name: SessionKeys.of(*name.split(":"), 1) for name in NAMES}
_RUN = ("word", "part", "lease", "attempt", "request", "deadline", "accepted", "seq", "retries", "last", "now", "owner")


@dataclass
class Claim:
    """What a worker believes to run."""

    name: str
    part: str
    value: str
    seq: int
    steps: int


@dataclass
class Call:
    """One script call with what the model says to it, so that both can be repeated."""

    script: str
    name: str
    args: tuple[str | int, ...]
    model: Callable[[], list[Any]]


@dataclass
class Slot:
    """One thread of a worker process; `last` is what it sent last, in case that arrives again."""

    process: str
    claim: Claim | None = None
    last: Call | None = None


def claimed(name: str, run: list[Any]) -> Claim:
    """What a worker that hears this answer believes to run."""
    journal = run[12][::2]
    return Claim(name, run[1], run[2], int(run[7]), len(journal) - 1)


def brief(script: str, reply: list[Any]) -> list[Any]:
    """A reply as the model gives it."""
    if script == "commit_turn" and reply[0] == "next_run":
        return ["committed", reply[-1], *brief("lease_session", ["run", *reply[1:-1]])]
    if script == "commit_turn" and reply[0] == "committed":
        _, status, queue, now = reply
        return ["committed", status, "more", queue, int(now)] if queue else ["committed", status, "released"]
    if script == "lease_session" and reply[0] == "run":
        run = dict(zip(_RUN, reply, strict=False))
        journal = dict(zip(reply[12][::2], reply[12][1::2], strict=True))
        numbers = [int(run["attempt"]), int(run["seq"]), int(run["retries"] or 0)]
        return ["run", run["part"], run["lease"], *numbers, run["last"], journal, reply[13]]
    if script == "accept_turn" and reply[0] == "accepted":
        return [*reply[:3], int(reply[3]), reply[4]]
    if script in ("cancel_turn", "delete_session", "release_turn"):
        return reply[:2] if reply[0] == "ended" else reply[:1]
    return reply


def acceptable(script: str, first: list[Any], then: list[Any]) -> bool:
    """Whether the caller, who saw only the second answer, does the right thing."""
    if first[0] == "accepted":
        return then[:2] == first[:2] and then[2] == "1"  # an extra wake-up does no harm
    if first == ["cancelled"] and script == "cancel_turn":
        return then == ["ended", "cancelled"]
    if script == "commit_turn" and first[0] == "committed" and first[2] in ("more", "released"):
        return then[:2] == first[:2] and then[2] in ("more", first[2])  # an extra wake-up does no harm
    if script == "forgive_crash":
        return then == ["nothing"]
    return then == first
