"""From settings to Celery and kombu options, for the client that publishes wake-ups and the worker that takes them.

A wake-up is a hint: losing or doubling one breaks nothing, because the store knows what is due. So Celery runs
without acknowledgement emulation, without results, with early acknowledgement and without prefetching.
"""

from __future__ import annotations

import ssl
from typing import Any

from kombu.entity import Queue

from broker_config.broker_transport import transport_for
from broker_config.redis_clients import store_url
from broker_config.settings import Settings

RESCUE_SUFFIX = ".rescue"


def broker_url(settings: Settings) -> str:
    """The broker's address in kombu's spelling (`redis+socket://` for a unix socket)."""
    url = settings.celery_broker_url or store_url(settings)
    if url.startswith("unix://"):
        return "redis+socket://" + url.removeprefix("unix://").replace("?db=", "?virtual_host=")
    return url


def queues(settings: Settings) -> list[Queue]:
    """The queues a worker serves. Each has a rescue queue beside it, and those are read first (R9)."""
    names = [*(name + RESCUE_SUFFIX for name in settings.served), *settings.served]
    return [Queue(name, routing_key=name) for name in names]


def celery_options(settings: Settings) -> dict[str, Any]:
    """Options for `Celery.conf.update`, for clients and workers alike."""
    url = broker_url(settings)
    options: dict[str, Any] = {
        "broker_url": url,
        "broker_transport": transport_for(url),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "socket_connect_timeout": settings.connect_timeout,
            "socket_timeout": 30.0,
            "socket_keepalive": True,
            "max_retries": 1,
            "ack_emulation": False,
            "queue_order_strategy": "priority",
        },
        "broker_pool_limit": 16,
        "task_publish_retry": True,
        "task_publish_retry_policy": {
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
        },
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_default_queue": "turns",
        "task_create_missing_queues": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_concurrency": settings.concurrency,
        "worker_pool": "threads",
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_detect_quorum_queues": False,
        "enable_utc": True,
    }
    if url.startswith("rediss://"):
        # Without this kombu would not check the certificate at all.
        options["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options
