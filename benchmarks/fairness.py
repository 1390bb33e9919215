"""Fairness between tenants: how long a single turn waits next to another tenant's backlog, and what that costs.

A turn takes 200 ms, and each worker has two slots. The single turn is sent repeatedly while the backlog lasts; its wait
is compared with the same on the idle fleet of the same run. The cost is that of wake-ups that go through the rota, and
of wake-ups that run the session that they name, in alternation.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from benchmarks.producers import chat_all
from benchmarks.report import Row
from benchmarks.rig import Meter, Rig, metered
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.without_rota import WITHOUT_ROTA, no_rota
from sessions import Agent, Session, Turn

_SLEEP = "SLEEP 0.2"
_SLOTS = 2
_AT_ONCE = 200
_names = count()


def fairness(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """The curve, the cost without contention, and the cost with many tenants."""
    return [*_curve(rig, scale, progress), *_throughput(rig, scale, progress), *_tenants(rig, scale, progress)]


# --- the curve -------------------------------------------------------------------------------------------


def _curve(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    rows: list[Row] = []
    for workers in (1, 4):
        with _fresh(rig) as own:
            running = [own.worker(f"fair{number}", concurrency=_SLOTS) for number in range(workers)]
            _agent(own, "light").chat("hello")
            contention = _Contention(own, workers * _SLOTS)
            idle = contention.wait_of_single_turns(scale.singles, 0)
            rows.append(Row(f"a turn on {workers} x {_SLOTS} idle slots, p50, ms", idle * 1000))
            for backlog in scale.backlogs:
                progress(f"a single turn next to {backlog:,} of another tenant, {workers} workers")
                wait = contention.wait_of_single_turns(scale.singles, backlog)
                rows.append(
                    Row(f"... next to {backlog:,} of another tenant", wait * 1000,
                        ratio=f"{wait / idle:.2f} x idle; {contention.started_meanwhile:g} of those started meanwhile",
                        target="at most 3 x idle", met=wait <= 3 * idle)
                )  # fmt: skip
            for worker in running:
                worker.end()
    return rows


class _Contention:
    """A backlog of one tenant, and single turns of another one."""

    def __init__(self, rig: Rig, slots: int) -> None:
        self._rig = rig
        self._slots = slots
        self._heavy: list[Turn] = []
        self.started_meanwhile = 0.0

    def wait_of_single_turns(self, singles: int, backlog: int) -> float:
        """The median seconds of a single turn while so many turns of the other tenant wait."""
        waits, turns = [], []
        for _ in range(singles):
            self._top_up(backlog)
            began = time.perf_counter()
            turns.append(_agent(self._rig, "light").submit(_SLEEP))
            turns[-1].result()
            waits.append(time.perf_counter() - began)
        starts = asyncio.run(self._starts())
        self.started_meanwhile = statistics.median(_between(starts, turn) for turn in turns)
        return statistics.median(waits)

    def _top_up(self, backlog: int) -> None:
        """Submit what is missing, and what ends while a single turn waits three times as long as on an idle fleet."""
        if backlog:
            client = self._rig.client
            waiting = client.portal.call(client.connection.stores.rota.waiting("turns")).get("heavy", 0)
            missing = max(0, backlog - waiting) + 3 * self._slots
            self._heavy += asyncio.run(_submit(self._rig, ["heavy"] * missing))

    async def _starts(self) -> list[int]:
        """When the other tenant's turns started; they do so in order, so the rest is not read."""
        starts: list[int] = []
        for turn in self._heavy:
            started = (await turn.arecord()).started_ms
            if started is None and len(starts) > 2 * self._slots:
                break
            starts += [] if started is None else [started]
        return starts


def _between(starts: list[int], single: Turn) -> int:
    mine = single.record()
    return sum(mine.accepted_ms < start < (mine.started_ms or 0) for start in starts)


# --- what it costs ---------------------------------------------------------------------------------------


def _throughput(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Turns of an instant model and of one tenant, with the rota and without, alternating."""
    meters = {"with": Meter(), "without": Meter()}
    commands = dict.fromkeys(meters, 0)
    for number in range(2 * scale.rounds):
        for name in meters if number % 2 == 0 else reversed(meters):  # neither is always the first of a pair
            progress(f"{scale.turns} turns, {name} rota, round {number + 1}/{2 * scale.rounds}")
            with _rota(on=name == "with") as env:
                worker = rig.worker(f"rota{next(_names)}", **env)
                chat_all(rig, ["hello"] * min(200, scale.turns))
                before = _commands(rig)
                with metered(rig, worker) as meter:
                    chat_all(rig, ["hello"] * scale.turns)
                commands[name] += _commands(rig) - before
                meters[name].add(meter)
                worker.end()
    turns = 2 * scale.rounds * scale.turns
    speed = meters["without"].wall / meters["with"].wall
    rows = [
        Row("turns/s with the rota", turns / meters["with"].wall, ratio=f"{speed:.2f} x without",
            target="at least 0.95 x without", met=speed >= 0.95)
    ]  # fmt: skip
    for part in ("client", "worker", "server"):
        cost = {name: getattr(meter, part) / turns * 1000 for name, meter in meters.items()}
        rows.append(
            Row(f"... CPU per turn, {part}, ms", cost["with"], ratio=f"{cost['with'] / cost['without']:.2f} x without")
        )
    ratio = f"{commands['with'] / commands['without']:.2f} x without"
    return [*rows, Row("... commands of the server per turn, also in scripts", commands["with"] / turns, ratio=ratio)]


def _tenants(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """A backlog of one tenant, and one with a tenant for each turn: both are submitted first, then run."""
    found: dict[str, tuple[float, float]] = {}
    for name, tenants in {"one": 1, "many": scale.backlogs[-1]}.items():
        progress(f"a backlog of {scale.backlogs[-1]:,} turns of {tenants:,} tenants")
        with _fresh(rig) as own:
            before = _commands(own)
            names = [f"t{number % tenants}" for number in range(scale.backlogs[-1])]
            turns = asyncio.run(_submit(own, names, "hello"))
            worker = own.worker("tenants")
            with metered(own, worker) as meter:
                asyncio.run(_all_results(turns))
            cpu = (meter.worker + meter.server) / len(turns) * 1000
            found[name] = (cpu, (_commands(own) - before) / len(turns))
            worker.end()
    (cpu, commands), (one_cpu, one_commands) = found["many"], found["one"]
    return [
        Row(f"{scale.backlogs[-1]:,} tenants wait, commands of the server per turn", commands,
            ratio=f"{commands / one_commands:.2f} x one tenant", target="at most 1.1 x",
            met=commands <= 1.1 * one_commands),
        Row("... CPU per turn, worker and server, ms", cpu, ratio=f"{cpu / one_cpu:.2f} x one tenant"),
    ]  # fmt: skip


async def _submit(rig: Rig, tenants: list[str], message: str = _SLEEP) -> list[Turn]:
    """A turn in a session of its own for each of these tenants, in this order."""
    turns: list[Turn] = []
    for start in range(0, len(tenants), _AT_ONCE):
        some = [_agent(rig, tenant) for tenant in tenants[start : start + _AT_ONCE]]
        turns += await asyncio.gather(*(agent.asubmit(message) for agent in some))
    return turns


async def _all_results(turns: list[Turn]) -> None:
    """The newest first: when it has ended, nearly all have, so few are waited for."""
    for turn in reversed(turns):
        await turn.aresult()


def _agent(rig: Rig, tenant: str) -> Agent:
    return Session(f"fair-{next(_names)}", tenant=tenant, settings=rig.settings).Agent("bench", model="instant")


@contextlib.contextmanager
def _fresh(rig: Rig) -> Iterator[Rig]:
    """A server without the backlogs of other measurements."""
    folder = rig.folder / f"fair{next(_names)}"
    folder.mkdir()
    own = Rig(folder)
    try:
        yield own
    finally:
        own.close()


def _commands(rig: Rig) -> int:
    stats: Any = rig.redis.info("commandstats")
    return sum(stat["calls"] for name, stat in stats.items() if name != "cmdstat_info")


@contextlib.contextmanager
def _rota(*, on: bool) -> Iterator[dict[str, str]]:
    """Settings of a worker that uses the rota or not, while this process does the same."""
    with contextlib.nullcontext() if on else no_rota():
        yield {} if on else {WITHOUT_ROTA: "1"}
