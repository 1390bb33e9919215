"""Many producers, few sessions: the order of acceptance is the order of everything after it."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from concurrent.futures import ProcessPoolExecutor

import pytest

from broker_config.settings import Settings
from sessions import Session, TurnStatus
from sessions.client.per_process import get_client
from sessions.store.history import HistoryEntry
from tests.support.fleet import Fleet

PRODUCERS, SESSIONS, TURNS_EACH = 4, 20, 5


def _produce(url: str, producer: int, session_ids: list[str]) -> list[tuple[str, str, int]]:
    """One producer process: a turn to each session, round after round; session, turn id and round of each."""
    settings = Settings(redis_url=url)
    accepted = []
    for round_ in range(TURNS_EACH):
        for session_id in session_ids:
            agent = Session(session_id, settings=settings).Agent("A")
            turn = agent.submit(f"SAY {producer}.{round_}\n{session_id}\nSLEEP 0.002")
            accepted.append((session_id, turn.id, round_))
    client = get_client(settings)
    client.portal.call(client.aclose())
    return accepted


def _steps_of(fleet: Fleet, session_id: str) -> list[tuple[str, str]]:
    """(start or end, producer.round) of the session's model calls, in the order in which they happened."""
    lines = [line for line in fleet.ledger() if session_id in line.get("prompt", "")]
    return [(line["kind"], line["prompt"].split()[1]) for line in lines]


def test_turns_of_a_session_run_one_at_a_time_in_the_order_of_acceptance(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """4 producer processes, 20 sessions, 400 turns: none at once, none out of order, none lost, none doubled."""
    session_ids = [uuid.uuid4().hex for _ in range(SESSIONS)]
    began = time.monotonic()
    with ProcessPoolExecutor(PRODUCERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_produce, fleet.server.url, number, session_ids) for number in range(PRODUCERS)]
        produced = [job.result(timeout=60) for job in jobs]
    turns = [(sid, fleet.session(sid).turn(turn_id), f"{producer}.{round_}")
             for producer, accepted in enumerate(produced) for sid, turn_id, round_ in accepted]  # fmt: skip
    for _, turn, said in turns:
        assert turn.result(timeout=60) == said
    took = time.monotonic() - began

    assert len(turns) == PRODUCERS * SESSIONS * TURNS_EACH
    records = {turn.id: turn.record() for _, turn, _ in turns}
    assert all(r.status is TurnStatus.SUCCEEDED and r.attempt == 1 for r in records.values())
    workers = {r.worker for r in records.values()}
    for sid in session_ids:
        own = [(turn, said) for session_id, turn, said in turns if session_id == sid]
        steps = _steps_of(fleet, sid)
        ran = [said for kind, said in steps if kind == "model_started"]
        assert steps == [step for said in ran for step in (("model_started", said), ("model", said))], "two at once"
        assert sorted(ran) == sorted(said for _, said in own), "lost or doubled"
        accepted_at = {said: records[turn.id].accepted_ms for turn, said in own}
        assert [accepted_at[said] for said in ran] == sorted(accepted_at.values()), "not in the order of acceptance"
        for producer in range(PRODUCERS):
            mine = [said for said in ran if said.startswith(f"{producer}.")]
            assert mine == sorted(mine), "a producer's own turns out of order"
        assert _history(fleet, sid) == [turn.id.rpartition("~")[2] for said in ran for turn, s in own if s == said]
    with capsys.disabled():
        print(f"\norder: {len(turns)} turns of {SESSIONS} sessions by {PRODUCERS} processes on {len(workers)} workers "
              f"in {took:.1f} s: 0 at once, 0 out of order, 0 lost, 0 doubled")  # fmt: skip


def _history(fleet: Fleet, session_id: str) -> list[str]:
    """The turns in the session's history, oldest first."""
    with fleet.server.client() as client:
        entries = client.lrange(fleet.client.keys(session_id).history, 0, -1)
    return [HistoryEntry.load(entry).turn for entry in entries]
