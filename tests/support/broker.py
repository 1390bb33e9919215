"""Where the broker keeps its queues, for tests that read or damage them."""

from __future__ import annotations

from broker_config.celery_options import BROKER_PREFIX


def queue_key(queue: str) -> str:
    """The Redis key of a queue's list."""
    return BROKER_PREFIX + queue
