"""How Celery starts and stops what runs turns: a step in the life of its worker."""

from __future__ import annotations

import sys
from typing import Any, cast

from celery import Celery, bootsteps
from celery.signals import setup_logging, worker_shutting_down

from broker_config.celery_options import RESCUE_SUFFIX
from broker_config.embedded import EmbeddedServer, resolved
from broker_config.settings import Settings, load_settings
from broker_config.telemetry import configure_logging
from sessions.own_packages import HiddenPackage, own_path
from sessions.protocol.turn import TASK_NAME
from workers.process.pool import slot_pool
from workers.process.process import TurnProcess
from workers.process.start_errors import told_in_one_line


class TurnsStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Ties a `TurnProcess` to the life of a Celery worker: up before it consumes, drained before its pool ends."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        self._worker = worker
        worker.turns = None
        with told_in_one_line(load_settings()):  # Celery makes the pool after this
            worker.pool_cls = slot_pool(worker.pool_cls, autoscale=bool(worker.autoscale))

    def start(self, worker: Any) -> None:
        """Start before the consumer does. An error here ends the worker, with its message."""
        settings = load_settings()
        with told_in_one_line(settings):
            self._start(worker, settings)

    def _start(self, worker: Any, settings: Settings) -> None:
        refuse_without_task(worker.app)
        if settings.embedded:
            EmbeddedServer(settings.home).ensure_started()
        settings = resolved(settings).model_copy(update={"concurrency": worker.concurrency})
        worker.turns = TurnProcess(settings, worker.app, worker.hostname)
        worker.app.turns = worker.turns
        worker_shutting_down.connect(self._shutting_down, weak=False)
        worker.turns.start()
        self._consume(worker)

    def _consume(self, worker: Any) -> None:
        """Take wake-ups of the queues that this process serves, and of others once it does."""
        queues = worker.app.amqp.queues
        unserved = [name for name in queues if name.removesuffix(RESCUE_SUFFIX) not in worker.turns.queues]
        queues.deselect(unserved)

        def begin(queue: str) -> None:
            for name in (queue + RESCUE_SUFFIX, queue):
                worker.consumer.call_soon(worker.consumer.add_task_queue, name)

        worker.turns.retrieval.on_queue = begin

    def close(self, worker: Any) -> None:
        """The worker ends, for whatever reason. From here on its time is limited, whichever part of it hangs."""
        if worker.turns is not None:
            worker.turns.begin_drain()

    def stop(self, worker: Any) -> None:
        """Drain; the pool's threads are free afterwards."""
        if worker.turns is not None:
            worker.turns.stop()

    def terminate(self, worker: Any) -> None:
        """A cold shutdown: as `stop`, with whatever time the grace period leaves."""
        self.stop(worker)

    def _shutting_down(self, **_: Any) -> None:
        if self._worker.turns is not None:
            self._worker.turns.begin_drain()


def refuse_without_task(app: Celery) -> None:
    """Check that the task that wake-ups name is registered: without it the worker would look healthy and run nothing.

    Raises:
        HiddenPackage: it is not registered; the message says which module was imported as `workers.tasks`.
    """
    if TASK_NAME not in app.tasks:
        tasks = getattr(sys.modules.get("workers.tasks"), "__file__", None)
        raise HiddenPackage(
            f"the application {app.main!r} has no task {TASK_NAME!r}: {own_path('workers')!r} registers it, and "
            f"`workers.tasks` is {tasks!r} here; start the worker with `sessionfleet worker`"
        )


@setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _logging(**_: Any) -> None:
    """Our log format instead of Celery's; it also keeps Celery from logging a task's arguments."""
    configure_logging(load_settings())


def turns_of(app: Celery) -> TurnProcess:
    """The turn process of the worker that this application runs in."""
    return cast(TurnProcess, app.turns)
