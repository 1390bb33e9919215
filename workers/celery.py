"""The Celery application of the fleet: `celery -A workers worker | flower | inspect`."""

from __future__ import annotations

import os

from sessions.own_packages import require_own

# Celery looks in the working directory first. If that has a `workers`, too, then in an editable install this module is
# ours and its package is not: `workers.tasks` may be either.
require_own("workers", "sessions", "broker_config")

from broker_config.celery_app import FleetApp
from broker_config.celery_options import queues
from broker_config.embedded import resolved
from broker_config.settings import load_settings
from workers.process import control
from workers.process.pool import SlotPool
from workers.process.step import TurnsStep
from workers.tasks import register_tasks

__all__ = ["app", "control", "settings"]

# Flower's own list of tasks has neither the session nor how its turns ended. It reads this before its command line, so
# `celery -A workers flower` and `sessionfleet flower` show the same.
os.environ.setdefault("FLOWER_TASKS_COLUMNS", "args,state,result,exception,received,runtime,worker,uuid")

settings = resolved(load_settings())

# Objects instead of names to import, because Celery would look for the names in the working directory first.
app = FleetApp("workers", settings)
app.conf.update(task_queues=queues(settings), worker_pool=SlotPool)
app.steps["worker"].add(TurnsStep)
register_tasks(app)
