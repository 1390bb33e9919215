"""Starts and stops the turn process with Celery's worker, as one of its bootsteps."""

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
from workers.process.start_errors import errors_in_one_line


class TurnsStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the `TurnProcess` before the worker consumes messages, and drains it before the worker's pool stops."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        self._worker = worker
        worker.turn_process = None
        with errors_in_one_line(load_settings()):  # Celery creates the pool after this
            worker.pool_cls = slot_pool(worker.pool_cls, autoscale=bool(worker.autoscale))

    def start(self, worker: Any) -> None:
        """Called before the consumer starts. An error here ends the worker with its message."""
        settings = load_settings()
        with errors_in_one_line(settings):
            self._start(worker, settings)

    def _start(self, worker: Any, settings: Settings) -> None:
        refuse_without_task(worker.app)
        if settings.embedded:
            EmbeddedServer(settings.home).ensure_started()
        settings = resolved(settings).model_copy(update={"concurrency": worker.concurrency})
        worker.turn_process = TurnProcess(settings, worker.app, worker.hostname)
        worker.app.turn_process = worker.turn_process
        worker_shutting_down.connect(self._shutting_down, weak=False)
        worker.turn_process.start()
        self._consume(worker)

    def _consume(self, worker: Any) -> None:
        """Consume the queues that this process serves, and any queue that it begins to serve later."""
        queues = worker.app.amqp.queues
        unserved = [name for name in queues if name.removesuffix(RESCUE_SUFFIX) not in worker.turn_process.queues]
        queues.deselect(unserved)

        def begin(queue: str) -> None:
            for name in (queue + RESCUE_SUFFIX, queue):
                worker.consumer.call_soon(worker.consumer.add_task_queue, name)

        worker.turn_process.retrieval.on_queue_served = begin

    def close(self, worker: Any) -> None:
        """Called when the worker ends for any reason. From here on its time is limited, whichever part of it hangs."""
        if worker.turn_process is not None:
            worker.turn_process.begin_drain()

    def stop(self, worker: Any) -> None:
        """Drain. Afterwards the pool's threads are free."""
        if worker.turn_process is not None:
            worker.turn_process.stop()

    def terminate(self, worker: Any) -> None:
        """A cold shutdown. The same as `stop`, with the rest of the grace period."""
        self.stop(worker)

    def _shutting_down(self, **_: Any) -> None:
        if self._worker.turn_process is not None:
            self._worker.turn_process.begin_drain()


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
    """Use our log format instead of Celery's, which would also log each task's arguments."""
    configure_logging(load_settings())


def turn_process_of(app: Celery) -> TurnProcess:
    """The turn process of the worker that this application runs in."""
    return cast(TurnProcess, app.turn_process)
