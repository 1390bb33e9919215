"""The whole store in cluster mode, with the broker on a plain server: as at scale."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions import AgentTeam, EventType, Task, TurnStatus
from sessions.errors import SessionOwnerError, TurnCancelled
from sessions.protocol.lanes import SEARCH
from tests.support.fleet import Fleet, keys_without_ttl, running_fleet
from tests.support.servers import Server
from tests.support.waiting import wait_until


def sid() -> str:
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def clustered(cluster_server: Server, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers whose store is a cluster and whose broker (another database of it) is not."""
    broker = f"redis://127.0.0.1:{server.port}/1"
    env = {"SESSIONFLEET_REDIS_CLUSTER": "1", "SESSIONFLEET_LEASE": "2", "SESSIONFLEET_BROKER_URL": broker}
    with running_fleet(tmp_path_factory.mktemp("clustered"), cluster_server, env, workers=("c1", "c2")) as fleet:
        yield fleet


def test_a_conversation_on_a_cluster(clustered: Fleet) -> None:
    """Chat, tools and history work; sessions of many partitions at once."""
    agents = [clustered.session(sid()).Agent("A", tools=["charge"]) for _ in range(8)]

    async def ask(text: str) -> list[str]:
        return await asyncio.gather(*(agent.achat(text) for agent in agents))

    assert asyncio.run(ask("SAY hello")) == ["hello"] * 8
    assert asyncio.run(ask('CALL charge({"amount": 3})')) == ["ok: charged 3"] * 8


def test_a_stream_on_a_cluster_rings(clustered: Fleet) -> None:
    """Events come as they happen, by sharded pub/sub; the sequence is the same when read again."""
    agent = clustered.session(sid()).Agent("A")
    turn = agent.submit("SAY a b c d\nPACE 0.1", stream=True)
    events = list(turn.events())
    assert "".join(e.text for e in events) == "a b c d"
    assert sum(e.type is EventType.TEXT_DELTA for e in events) >= 3
    assert list(turn.events()) == events


def test_cancel_delete_and_owners_on_a_cluster(clustered: Fleet) -> None:
    """Cancel, delete and the check of the owner work on a cluster, too."""
    session = clustered.session(sid(), user_id="alice")
    turn = session.Agent("A").submit("SLEEP 30")
    wait_until(lambda: turn.status is TurnStatus.RUNNING, description="the turn runs")
    turn.cancel()
    with pytest.raises(TurnCancelled):
        turn.result(timeout=20)
    with pytest.raises(SessionOwnerError):
        clustered.session(session.session_id, user_id="bob").delete()
    assert session.delete()["turns"] == 1
    assert keys_without_ttl(clustered.server) == []


def test_a_killed_worker_is_replaced_on_a_cluster(clustered: Fleet, tmp_path: Path) -> None:
    """Leases, rescue and journal: after kill -9 the other worker continues, and the tool ran once."""
    prompt = 'CALL look_up({"query": "crash"})\nSLEEP 1'
    turn = clustered.session(sid()).Agent("A", tools=["look_up"]).submit(prompt)
    # The model is asked again only when the tool's result is in the journal: before that a kill may repeat the tool.
    line = clustered.noted("model_started", prompt=prompt, step=1)[0]
    clustered.worker_of_pid(line["pid"]).kill()
    assert turn.result(timeout=30) == "ok: crash found"
    assert len(clustered.ledger("look_up", query="crash")) == 1
    assert turn.attempt == 2


def test_a_search_on_a_cluster(clustered: Fleet) -> None:
    """It goes directly to the worker that serves retrieval, whatever slots the session and the processes are in."""
    sessions = [clustered.session(sid()) for _ in range(3)]
    for session in sessions:
        session.add_memory(f"The room is called {session.session_id}")
        assert [memory["text"][-32:] for memory in session.search_memory("room")] == [session.session_id]
    with clustered.server.client() as client:
        assert not any(client.exists(session.keys.lane(SEARCH).meta) for session in sessions), "no turn was needed"


def test_a_team_on_a_cluster(clustered: Fleet) -> None:
    """Its run and its tasks are in their own slots; a session's transcript is copied to where its tasks run."""
    session = clustered.session(sid())
    helper = session.Agent("Helper", instructions="help")
    helper.chat("SAY hello")
    tasks = [Task("SAY one"), Task("SAY two")]
    run = AgentTeam([helper], [*tasks, Task("SAY both", context=tasks)], "parallel").submit()
    result = run.result(timeout=30)
    assert [task.text for task in result.tasks] == ["one", "two", "both"]
    lane = clustered.session(str(result.tasks[0].turn).rpartition("~")[0])
    assert lane.get_context()["message_count"] == 4
