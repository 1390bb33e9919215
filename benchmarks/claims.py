"""The scenarios that were measured with PraisonAI 1.7.17, measured with Sessionfleet.

PraisonAI's figures are from the same kind of machine on another day, so the comparison is of magnitudes, not a ratio
of one run.
"""

from __future__ import annotations

import multiprocessing
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.producers import agent
from benchmarks.report import Row
from broker_config.settings import Settings
from sessions import Session

if TYPE_CHECKING:
    from benchmarks.rig import Rig
    from benchmarks.scale import ProgressCallback, Scale

_THEIR_SECONDS = 16.0  # for 1,000 messages, one by one


def claims(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """1,000 messages one by one; 8 processes that write to one session; 2 processes that count."""
    worker = rig.worker("claims")
    try:
        return [_one_by_one(rig, scale, progress), _writers(rig, scale, progress), _counters(rig, progress)]
    finally:
        worker.end()


def _one_by_one(rig: Rig, scale: Scale, progress: ProgressCallback) -> Row:
    progress(f"{scale.appends:,} messages of one session, one by one")
    one = agent(rig, uuid.uuid4().hex)
    one.chat("hello")
    began = time.perf_counter()
    for _ in range(scale.appends // 2):
        one.chat("hello")
    took = time.perf_counter() - began
    theirs = _THEIR_SECONDS * scale.appends / 1000
    return Row(f"{scale.appends:,} messages one by one, s", took, ratio=f"PraisonAI: {theirs:g} s",
               target="at most a half of it", met=took <= theirs / 2)  # fmt: skip


def _writers(rig: Rig, scale: Scale, progress: ProgressCallback) -> Row:
    each = 2 * (scale.appends * 3 // 20)
    progress(f"{scale.writers} processes x {each} messages to one session")
    session = Session(uuid.uuid4().hex, settings=rig.settings)
    _run([(_write, (rig.settings.model_dump(), session.session_id, each // 2))] * scale.writers)
    kept = session.get_context()["message_count"]
    return Row(f"{scale.writers} writers x {each} messages, kept", kept, ratio="PraisonAI: 2,368 of 2,400",
               target=f"all {scale.writers * each:,}", met=kept == scale.writers * each)  # fmt: skip


def _counters(rig: Rig, progress: ProgressCallback) -> Row:
    progress("2 processes x 10 increments")
    session = Session(uuid.uuid4().hex, settings=rig.settings)
    _run([(_count, (rig.settings.model_dump(), session.session_id))] * 2)
    counted = session.get_state("n")
    return Row("2 processes x 10 increments", counted, ratio="PraisonAI: 10", target="20", met=counted == 20)


def _run(calls: list[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=function, args=arguments) for function, arguments in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _write(settings: dict[str, object], session_id: str, turns: int) -> None:
    one = Session(session_id, settings=Settings.model_validate(settings)).Agent("bench", model="instant")
    for _ in range(turns):
        one.chat("hello")


def _count(settings: dict[str, object], session_id: str) -> None:
    session = Session(session_id, settings=Settings.model_validate(settings))
    for _ in range(10):
        session.increment_state("n")
