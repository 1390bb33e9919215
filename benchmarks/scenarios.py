"""The scenarios. Each starts the workers it needs, stops them, and returns its rows."""

from __future__ import annotations

import asyncio
import gc
import signal
import statistics
import time
from collections.abc import Callable
from itertools import count

from pydantic_ai import Agent as EngineAgent

from benchmarks import usual_recipe
from benchmarks.claims import claims
from benchmarks.doubles import instant
from benchmarks.fairness import fairness
from benchmarks.http_edge import http_edge
from benchmarks.producers import INSTRUCTIONS, agent, celery_all, chat_all, latencies, quantile
from benchmarks.report import Row
from benchmarks.rig import Meter, PeakMemory, Process, Rig, metered, wait_until
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.session_lists import session_lists
from benchmarks.streams import streams
from sessions import Turn

_HELLO = "Hello, who are you?"
_numbers = count()


# --- a model that takes no time: turns per second, CPU, latency ------------------------------------------


def main_path(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Ours, the recipe and the bare Celery no-op, alternating, so that a noisy moment affects all of them."""
    usual_recipe.app.conf.update(broker_url=rig.url, result_backend=rig.url)
    meters = {"ours": Meter(), "usual": Meter(), "celery": Meter()}
    waits: dict[str, list[float]] = {"ours": [], "usual": [], "celery": []}
    for number in range(scale.rounds):
        for name, total in meters.items():
            progress(
                f"{scale.turns} turns and {scale.blocking} blocking ones, {name}, round {number + 1}/{scale.rounds}"
            )
            worker = _worker(rig, name)
            _many(rig, name, min(200, scale.turns))  # connections are made, code is warm
            gc.collect()
            with metered(rig, worker) as meter:
                _many(rig, name, scale.turns)
            total.add(meter)
            waits[name] += latencies(scale.blocking, lambda _, name=name: _one(rig, name))
            worker.end()
    bare = _bare(scale, progress)
    return _main_rows(meters, {k: sorted(v) for k, v in waits.items()}, bare, scale.turns * scale.rounds)


def _worker(rig: Rig, name: str) -> Process:
    label = f"{name}{next(_numbers)}"
    return rig.worker(label) if name == "ours" else rig.usual_worker(label)


def _many(rig: Rig, name: str, turns: int) -> None:
    if name == "ours":
        chat_all(rig, [_HELLO] * turns)
    elif name == "usual":
        celery_all([(usual_recipe.chat, (f"s{next(_numbers)}", _HELLO)) for _ in range(turns)])
    else:
        celery_all([(usual_recipe.noop, ())] * turns)


def _one(rig: Rig, name: str) -> None:
    if name == "ours":
        agent(rig).chat(_HELLO)
    elif name == "usual":
        usual_recipe.chat.delay(f"s{next(_numbers)}", _HELLO).get(timeout=60)
    else:
        usual_recipe.noop.delay().get(timeout=60)


def _bare(scale: Scale, progress: ProgressCallback) -> tuple[float, float]:
    """Milliseconds of CPU, and median seconds, of pydantic-ai alone, in this process."""
    progress(f"{scale.bare} bare agent.run")
    engine = EngineAgent(instant, instructions=INSTRUCTIONS)

    async def run() -> tuple[float, list[float]]:
        for _ in range(10):
            await engine.run(_HELLO)
        taken, cpu = [], time.process_time()
        for _ in range(scale.bare):
            began = time.perf_counter()
            await engine.run(_HELLO)
            taken.append(time.perf_counter() - began)
        return (time.process_time() - cpu) / scale.bare * 1000, sorted(taken)

    cpu, taken = asyncio.run(run())
    return cpu, quantile(taken, 0.5)


def _main_rows(
    meters: dict[str, Meter], waits: dict[str, list[float]], bare: tuple[float, float], turns: int
) -> list[Row]:
    ours, usual, celery = meters["ours"], meters["usual"], meters["celery"]
    faster = usual.wall / ours.wall
    rows = [
        Row(
            "turns/s", turns / ours.wall, turns / usual.wall, turns / celery.wall, 1000 / bare[0],
            f"{faster:.2f} x recipe", "at least 1.2 x recipe", faster >= 1.2,
        )
    ]  # fmt: skip
    for part in ("client", "worker", "server"):
        cost = [getattr(meter, part) / turns * 1000 for meter in (ours, usual, celery)]
        alone = bare[0] if part == "worker" else None
        rows.append(Row(f"CPU per turn, {part}, ms", *cost, alone, f"{cost[0] / cost[1]:.2f} x recipe"))
    p50 = {name: quantile(taken, 0.5) * 1000 for name, taken in waits.items()}
    p99 = {name: quantile(taken, 0.99) * 1000 for name, taken in waits.items()}
    slower = p50["ours"] / p50["celery"]
    met = p50["ours"] <= 6 or slower <= 2.5
    return [
        *rows,
        Row(
            "blocking chat(), p50, ms", p50["ours"], p50["usual"], p50["celery"], bare[1] * 1000,
            f"{slower:.2f} x Celery", "at most 6 ms, or 2.5 x Celery", met,
        ),
        Row(
            "blocking chat(), p99, ms", p99["ours"], p99["usual"], p99["celery"],
            ratio=f"{p99['ours'] / p99['celery']:.2f} x Celery",
        ),
    ]  # fmt: skip


# --- a slow model: many turns in flight in one process ---------------------------------------------------


def slow_models(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Turns that wait for a model, a thousand at a time in one worker process."""
    rows = []
    worker = rig.worker("slow", concurrency=max(scale.slow, 100))
    chat_all(rig, [_HELLO] * 50)
    for seconds in (0.5, 3.0):
        progress(f"{scale.slow} turns of a {seconds:g} s model in one process")
        with PeakMemory(worker) as memory, metered(rig, worker) as meter:
            chat_all(rig, [f"SLEEP {seconds:g}"] * scale.slow, at_once=scale.slow)
        peak = int(agent(rig).chat("PEAK"))
        judged = seconds == 3.0
        name, rss, most = f"{scale.slow:,} turns of a {seconds:g} s model", memory.peak / 1e6, 0.9 * scale.slow
        rows += [
            Row(f"{name}, wall, s", meter.wall, ratio=f"{meter.wall / seconds:.1f} x model",
                target="at most 7" if judged else "", met=meter.wall <= 7 if judged else None),
            Row(f"{name}, most in flight", peak,
                target=f"at least {most:,.0f}" if judged else "", met=peak >= most if judged else None),
            Row(f"{name}, worker RSS, MB", rss,
                target="at most 250" if judged else "", met=rss <= 250 if judged else None),
        ]  # fmt: skip
    worker.end()
    return rows


# --- a long history --------------------------------------------------------------------------------------


def long_history(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Turns of sessions with 10 messages, a full window, and 10,000, alternating: length must not slow a turn."""
    few = 20
    p50, cost = _aged(rig, scale, progress, few)
    default_p50, default_cost = _aged(rig, scale, progress, rig.settings.history_window)
    return [
        Row(f"{scale.history:,} messages, window of {few} turns, CPU of worker and server, ms", cost["long"],
            ratio=f"{cost['long'] / cost['window']:.2f} x full window"),
        Row(f"{scale.history:,} messages, chat() p50, ms", p50["long"],
            ratio=f"{p50['long'] / p50['window']:.2f} x full window"),
        Row("10 messages, chat() p50, ms", p50["short"], ratio=f"{p50['long'] / p50['short']:.2f} (10,000 : 10)",
            target="at most 1.2", met=p50["long"] / p50["short"] <= 1.2),
        Row(f"a full window of {rig.settings.history_window} turns, CPU of worker and server, ms",
            default_cost["window"], ratio=f"+{default_cost['window'] - default_cost['short']:.1f} ms to 5 turns"),
        Row("... chat() p50, ms", default_p50["window"], ratio=f"{default_p50['long']:.1f} with 10,000 messages"),
    ]  # fmt: skip


def _aged(rig: Rig, scale: Scale, progress: ProgressCallback, window: int) -> tuple[dict[str, float], dict[str, float]]:
    """The median of `chat()` and the CPU time of a turn, in ms, by the length of its session."""
    worker = rig.worker(f"history{window}", SESSIONFLEET_HISTORY_WINDOW=str(window))
    sizes = {"short": 10, "window": 2 * window, "long": scale.history}
    progress(f"sessions of {', '.join(f'{n:,}' for n in sizes.values())} messages")
    meters = {name: Meter() for name in sizes}
    waits: dict[str, list[float]] = {name: [] for name in sizes}
    long = [_with_history(rig, sizes["long"]) for _ in range(2)]
    for block in range(10):
        for name, messages in sizes.items():
            samples = scale.samples // 10
            # A turn makes a session longer, so a short one is used for one turn only.
            used = (long[block % 2] if name == "long" else _with_history(rig, messages) for _ in range(samples))
            agents = [agent(rig, session) for session in used]
            with metered(rig, worker) as meter:
                waits[name] += latencies(samples, lambda n, agents=agents: agents[n].chat(_HELLO))
            meters[name].add(meter)
    worker.end()
    cost = {name: (m.worker + m.server) / scale.samples * 1000 for name, m in meters.items()}
    return {name: statistics.median(taken) * 1000 for name, taken in waits.items()}, cost


def _with_history(rig: Rig, messages: int) -> str:
    """A session with this many messages: the entry of one real turn, written repeatedly."""
    session = f"aged-{next(_numbers)}"
    owner = agent(rig, session)
    owner.chat(_HELLO)
    keys = owner.session.keys
    entry = rig.redis.lindex(keys.history, 0)
    more = messages // 2 - 1
    for start in range(0, more, 1000):
        rig.redis.rpush(keys.history, *[entry] * min(1000, more - start))
    rig.redis.hincrby(keys.meta, "messages", more * 2)
    return session


# --- a crash ---------------------------------------------------------------------------------------------


def recovery(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Seconds from kill -9, with default settings, until all its turns are running again on another worker."""
    progress(f"kill -9 with {scale.in_flight} turns in flight")
    first = rig.worker("doomed")
    turns = [agent(rig).submit("SLEEP 30") for _ in range(scale.in_flight)]
    wait_until(lambda: all(turn.attempt == 1 for turn in turns), "all turns run")
    second = rig.worker("other")
    seconds, micros = rig.redis.time()
    killed = seconds + micros / 1e6
    first.end(signal.SIGKILL)
    wait_until(lambda: all(turn.attempt == 2 for turn in turns), "all turns run again")
    resumed = max(_started(turn) for turn in turns) - killed
    for turn in turns:
        turn.cancel()
    second.end()
    return [Row(f"kill -9 to all {scale.in_flight} resumed, s", resumed, target="at most 7", met=resumed <= 7)]


def _started(turn: Turn) -> float:
    return (turn.record().started_ms or 0) / 1000


# --- memory and knowledge -------------------------------------------------------------------------------


def retrieval(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Ingest, searches and their cost for turns; numpy, models and the index are loaded for these rows only."""
    from benchmarks.retrieval_rows import retrieval_rows

    return retrieval_rows(rig, scale, progress)


SCENARIOS: dict[str, Callable[[Rig, Scale, ProgressCallback], list[Row]]] = {
    "main": main_path,
    "slow": slow_models,
    "streams": streams,
    "gateway": http_edge,
    "history": long_history,
    "recovery": recovery,
    "claims": claims,
    "lists": session_lists,
    "fairness": fairness,
    "retrieval": retrieval,
}
