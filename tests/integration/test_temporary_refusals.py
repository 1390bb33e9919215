"""A store and broker that refuse for some seconds, and messages that are none: no worker ends, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.errors import StoreUnavailable
from tests.support.bad_messages import BAD_MESSAGES, remote_control
from tests.support.broker import queue_key
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

MakeFleet = Callable[..., Fleet]


def test_messages_that_are_none_end_no_worker(new_fleet: MakeFleet) -> None:
    """Another program writes to the queue: each such message is dropped and logged, and turns continue."""
    fleet = new_fleet()
    worker = fleet.start("w1")
    fleet.ready()
    control = remote_control(fleet.settings)
    with fleet.server.client() as client:
        wait_until(lambda: client.publish(control, "null"), description="the worker listens to remote control")
        for message in BAD_MESSAGES:
            client.publish(control, message)
        for queue in ("turns", "turns.rescue"):
            for message in BAD_MESSAGES:
                client.lpush(queue_key(queue), message)
        wait_until(lambda: client.llen(queue_key("turns")) == 0, description="the worker has taken them", timeout=40)
    assert fleet.session().Agent("A").submit("SAY still here").result(timeout=40) == "still here"
    assert worker.alive
    worker.terminate()
    assert worker.process is not None
    assert worker.process.returncode == 0, "none is kept, to be given back to the queue at the end"
    assert "broker_message_dropped" in worker.log
    assert "Unrecoverable" not in worker.log
    assert "Connection to broker lost" not in worker.log


@pytest.mark.parametrize("code", ["NOREPLICAS", "MISCONF"])
def test_a_store_that_refuses_writes_for_a_while_ends_no_worker_and_no_turn(tmp_path: Path, code: str) -> None:
    """Store and broker on one server, as by default: the finished tool call is written when it is over."""
    allowed = ("--enable-protected-configs", "yes")
    with (
        running(Server(tmp_path / "server", options=allowed)) as server,
        running_fleet(tmp_path / "fleet", server) as fleet,
    ):
        turn = fleet.session().Agent("A", tools=["charge"]).submit('CALL charge({"amount": 1, "seconds": 1})')
        fleet.noted("charge")
        _refuse(server, tmp_path, code)
        with pytest.raises(StoreUnavailable, match=f"for now; .*{code}"):
            fleet.session().Agent("A").submit("SAY refused")
        _accept(server, tmp_path)
        assert turn.result(timeout=60) == "ok: charged 1"
        assert (len(fleet.ledger("charge")), turn.record().crashes) == (1, 0)
        assert fleet.workers[0].alive


def test_what_was_finished_is_written_though_the_lease_ran_out(tmp_path: Path) -> None:
    """A refusal that is longer than a lease: no worker died, so no tool's call is in doubt and no response paid twice.

    One tool runs to its end while the store refuses, and then waits to be written; the same holds for the model.
    """
    with (
        running(Server(tmp_path / "server")) as server,
        running_fleet(tmp_path / "fleet", server, {"SESSIONFLEET_LEASE": "2"}, workers=("w1", "w2")) as fleet,
    ):
        turns = {
            "charge": 'CALL charge({"amount": 1, "seconds": 3})',
            "look_up": 'CALL look_up({"query": "x", "seconds": 3})',
            "answer": "SLEEP 0.5\nSAY done",
        }
        tools = ["charge", "look_up"]
        sent = {name: fleet.session(name).Agent("A", tools=tools).submit(m) for name, m in turns.items()}
        fleet.noted("charge")
        fleet.noted("look_up")
        fleet.noted("model_started", prompt=turns["answer"])
        with server.client() as client:
            client.config_set("min-replicas-to-write", 1)
            wait_until(lambda: not list(client.scan_iter("*:lease")), description="the leases have ended")
            fleet.noted("model", prompt=turns["answer"])
            client.config_set("min-replicas-to-write", 0)
        assert {name: turn.result(timeout=60) for name, turn in sent.items()} == {
            "charge": "ok: charged 1", "look_up": "ok: x found", "answer": "done",
        }  # fmt: skip
        assert [len(fleet.ledger(tool)) for tool in ("charge", "look_up")] == [1, 1]
        assert len(fleet.ledger("model", prompt=turns["answer"])) == 1
        records = [turn.record() for turn in sent.values()]
        assert [(record.attempt, record.crashes) for record in records] == [(1, 0)] * 3


def _refuse(server: Server, folder: Path, code: str) -> None:
    with server.client() as client:
        if code == "NOREPLICAS":
            client.config_set("min-replicas-to-write", 1)
            return
        doomed = folder / "doomed"
        doomed.mkdir()
        client.config_set("dir", str(doomed))
        client.config_set("save", "3600 1")
        doomed.rmdir()
        client.bgsave()
        wait_until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", description="the save has failed"
        )


def _accept(server: Server, folder: Path) -> None:
    with server.client() as client:
        client.config_set("min-replicas-to-write", 0)
        client.config_set("dir", str(folder))
        client.config_set("save", "")
