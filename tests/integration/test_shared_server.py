"""Another Celery application on the same Redis database: neither sees, stops nor feeds the other."""

from __future__ import annotations

import pytest
from celery import Celery

from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


@pytest.fixture
def shop(fleet: Fleet) -> Celery:
    """An application as a tutorial writes it, on the fleet's database."""
    return Celery("shop", broker=fleet.server.url, set_as_current=False)


def test_another_application_does_not_reach_our_workers(fleet: Fleet, shop: Celery) -> None:
    """`control shutdown` is usual in deploy scripts; `inspect` and Flower list the workers that answer."""
    assert shop.control.inspect(timeout=2).ping() is None
    shop.control.shutdown()
    assert fleet.session().Agent("A").chat("SAY still here", timeout=30) == "still here"
    assert all(worker.alive for worker in fleet.workers)


def test_another_application_hears_none_of_our_events(fleet: Fleet) -> None:
    """Flower of another application lists our workers if it hears their events or their answers."""
    fleet.client.portal.call(fleet.client.open())
    ours = fleet.client.connection.dispatcher._app
    with fleet.server.client() as client, client.pubsub(ignore_subscribe_messages=True) as theirs:
        theirs.psubscribe("/0.*")  # kombu's channels of all applications on database 0
        theirs.get_message(timeout=5)
        with ours.events.default_dispatcher() as events:
            events.send("worker-heartbeat", freq=1)
        # A worker that has just started does not listen to remote control yet, and what it missed is not kept.
        wait_until(
            lambda: len(ours.control.inspect(timeout=2, limit=2).ping() or ()) == 2, description="both workers answer"
        )
        client.publish("/0.end", "")
        heard = next(message for message in iter(lambda: theirs.get_message(timeout=5), None) if message)
    assert heard["channel"] == b"/0.end"


def test_queues_of_the_same_name_are_two(fleet: Fleet, shop: Celery) -> None:
    """A worker that took another application's task from its queue would drop it."""
    shop.send_task("shop.charge", queue="turns")
    assert fleet.session().Agent("A").chat("SAY done", timeout=30) == "done"
    with fleet.server.client() as client:
        assert client.llen("turns") == 1
        client.delete("turns")
