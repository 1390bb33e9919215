"""The Celery application of the fleet: `celery -A workers worker | flower | inspect`."""

from __future__ import annotations

import os

from broker_config.celery_app import FleetApp
from broker_config.celery_options import queues
from broker_config.embedded import resolved
from broker_config.settings import load_settings
from workers.process.step import TurnsStep

# Flower's own list of tasks has neither the session nor how its turns ended. It reads this before its command line, so
# `celery -A workers flower` and `sessionfleet flower` show the same.
os.environ.setdefault("FLOWER_TASKS_COLUMNS", "args,state,result,exception,received,runtime,worker,uuid")

settings = resolved(load_settings())

app = FleetApp("workers", settings, include=["workers.tasks", "workers.process.control"])
app.conf.update(task_queues=queues(settings), worker_pool="workers.process.pool:SlotPool")
app.steps["worker"].add(TurnsStep)
