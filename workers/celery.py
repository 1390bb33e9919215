"""The Celery application of the fleet: `celery -A workers worker | flower | inspect`."""

from __future__ import annotations

from celery import Celery

from broker_config.celery_options import celery_options, queues
from broker_config.embedded import resolved
from broker_config.settings import load_settings
from workers.step import TurnsStep

settings = resolved(load_settings())

app = Celery("workers", include=["workers.tasks", "workers.control"])
app.conf.update(celery_options(settings), task_queues=queues(settings), worker_pool="workers.pool:SlotPool")
app.steps["worker"].add(TurnsStep)
