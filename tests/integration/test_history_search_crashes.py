"""Transcripts are indexed exactly once, whatever becomes of the workers that do it."""

from __future__ import annotations

import itertools
import random
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from sessions import Session
from tests.support.fleet import Fleet, Worker
from tests.support.openai_server import OpenAIServer
from tests.support.servers import Server, running
from tests.support.transcripts import settled
from tests.support.waiting import wait_until

_names = (f"w{number}" for number in itertools.count(1))
Crew = tuple[Fleet, OpenAIServer]


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """A fleet whose workers may be killed, with encryption; and the server that computes the vectors."""
    provider = OpenAIServer()
    with running(Server(tmp_path_factory.mktemp("server"), options=("--appendfsync", "always"))) as server:
        env = {
            "SESSIONFLEET_LEASE": "1.5", "SESSIONFLEET_MAX_ATTEMPTS": "20", "SESSIONFLEET_MODEL_BACKOFF": "0.2",
            "SESSIONFLEET_EMBEDDING_MODEL": "openai:fake", "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": provider.url,
            "SESSIONFLEET_CONCURRENCY": "20", "SESSIONFLEET_ENCRYPTION_KEYS": "k:" + "A" * 43 + "=",
        }  # fmt: skip
        fleet = Fleet(tmp_path_factory.mktemp("crew"), server, env)
        yield fleet, provider
        fleet.close()
    provider.shutdown()
    provider.server_close()


def pair(fleet: Fleet) -> tuple[Worker, Worker]:
    """Two workers of role `all`: the one that owns the index, and the other."""
    while sum(worker.alive for worker in fleet.workers) < 2:
        fleet.start(next(_names))
    fleet.ready(2)
    owner = wait_until(lambda: serving(fleet), description="a worker serves retrieval")
    return owner, next(worker for worker in fleet.workers if worker.alive and worker is not owner)


def serving(fleet: Fleet) -> Worker | None:
    """The running worker that serves retrieval."""
    pids = {info.pid for info in fleet.registered() if "retrieval" in info.queues}
    return next((worker for worker in fleet.workers if worker.alive and worker.pid in pids), None)


def answers(session: Session) -> Counter[str]:
    """What can be found of the answers, each with how often it is."""
    return Counter(m.text for m in session.search_history("part", role="assistant", limit=100))


def in_history(session: Session) -> Counter[str]:
    """The answers that the history has."""
    return Counter(message.text for message in session.history(1000) if message.role == "assistant")


def test_a_history_goes_on_where_its_killed_worker_was(crew: Crew) -> None:
    """The other worker takes the index over: each turn is found once, and no more than a batch is paid for twice."""
    fleet, provider = crew
    owner, other = pair(fleet)
    word = f"n{uuid.uuid4().hex[:8]}"
    session = fleet.session(f"back-{word}", user_id=word)
    turns = [session.Agent("A").submit(f"{f'HANG {word}' if n == 40 else ''}\nSAY {word} part {n}") for n in range(90)]
    for turn in turns:
        turn.result(timeout=120)
    session.update(searchable=True)
    wait_until(lambda: word in provider.hung, description="the provider hangs")
    owner.kill()
    wait_until(lambda: serving(fleet) is other, description="the other worker serves retrieval")
    settled(fleet, session, timeout=120)
    assert answers(session) == Counter({f"{word} part {n}": 1 for n in range(90)})
    paid = Counter(text for texts in provider.embedded for text in texts if f"{word} part" in text)
    assert len(paid) == 180
    assert 0 < sum(times - 1 for times in paid.values()) <= 32, "two batches of texts and no more"
    found = Session.search("part", word, role="assistant", limit=100, settings=fleet.settings)
    assert Counter(message.text for message in found) == answers(session)
    assert session.delete()["passages"] == 180


def test_a_turn_is_indexed_though_all_workers_die_at_its_end(crew: Crew) -> None:
    """What is to be indexed is written by the commit itself."""
    fleet, _ = crew
    workers = pair(fleet)
    session = fleet.session(f"end-{uuid.uuid4().hex[:8]}", searchable=True)
    session.chat("SAY the last part")
    for worker in workers:
        worker.kill()
    pair(fleet)
    settled(fleet, session, timeout=120)
    assert answers(session) == Counter({"the last part": 1})
    assert session.delete()["passages"] == 2


def test_the_index_follows_whatever_happens(crew: Crew) -> None:
    """Turns are added, replaced and deleted while workers are killed; the index ends up with what the history has."""
    fleet, _ = crew
    rng = random.Random(1)
    session = fleet.session(f"any-{uuid.uuid4().hex[:8]}", user_id="ann", searchable=True)
    pair(fleet)
    for number in range(24):
        turns = list(dict.fromkeys(message.turn_id for message in session.history(1000)))
        match rng.choice(["chat", "chat", "chat", "regenerate", "edit", "delete", "kill", "kill"]):
            case "regenerate" if turns:
                session.regenerate(message=f"SAY part {number} again")
            case "edit" if turns:
                session.regenerate(rng.choice(turns), message=f"SAY part {number} instead")
            case "delete" if turns:
                session.delete_turn(rng.choice(turns))
            case "kill":
                rng.choice([worker for worker in fleet.workers if worker.alive]).kill()
                fleet.start(next(_names))
            case _:
                session.chat(f"SAY part {number}", timeout=120)
    pair(fleet)
    settled(fleet, session, timeout=120)
    assert answers(session) == in_history(session)
    messages = len(session.history(1000))
    assert session.delete()["passages"] == messages
