"""Celery and kombu options from the settings, for clients that publish wake-ups and workers that receive them.

A wake-up is a hint: losing or duplicating one breaks nothing, because the store knows what is due. So Celery runs
without acknowledgement emulation, without results, with early acknowledgement and without prefetching.
"""

from __future__ import annotations

from typing import Any

from kombu.entity import Queue

from broker_config.broker_transport import transport_for
from broker_config.redis_clients import store_url
from broker_config.redis_url import RedisUrl
from broker_config.sentinel_url import SentinelUrl, is_sentinel
from broker_config.settings import Settings, SettingsError

RESCUE_SUFFIX = ".rescue"
BROKER_PREFIX = "sf:broker:"
"""The prefix of every key and channel on the broker: queues, bindings, remote control, events."""


def broker_url(settings: Settings) -> str:
    """The broker's URL in the form of our transports: the store's, unless a separate broker is configured.

    Raises:
        SettingsError: the store is a cluster, which cannot be a broker.
    """
    url = _address(settings)
    return SentinelUrl.parse(url).for_kombu(password=True) if is_sentinel(url) else url


def _address(settings: Settings) -> str:
    """The broker's URL, as it was configured.

    Raises:
        SettingsError: the store is a cluster, which cannot be a broker.
    """
    url = settings.broker_url or store_url(settings)
    if settings.redis_cluster and url == settings.redis_url:
        raise SettingsError(
            "a Redis Cluster cannot carry the wake-ups: set SESSIONFLEET_BROKER_URL to a Redis that is not a cluster"
        )
    return url


def queues(settings: Settings) -> list[Queue]:
    """The queues that a worker serves. Each has its own rescue queue, and those are read first (R9)."""
    names = [*(name + RESCUE_SUFFIX for name in settings.served), *settings.served]
    return [Queue(name, routing_key=name) for name in names]


def celery_options(settings: Settings) -> dict[str, Any]:
    """Options for `Celery.conf.update`, for clients and workers alike."""
    url = _address(settings)
    options: dict[str, Any] = {
        "broker_url": url,
        "broker_transport": transport_for(url),
        # Another Celery application on the same server neither sees our workers nor reaches them.
        "control_exchange": "sessionfleet",
        "event_exchange": "sessionfleet.events",
        "event_queue_prefix": "sessionfleet.events",
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "socket_connect_timeout": settings.connect_timeout,
            "socket_timeout": 30.0,
            "socket_keepalive": True,
            "max_retries": 1,
            "ack_emulation": False,
            "queue_order_strategy": "priority",
            "global_keyprefix": BROKER_PREFIX,
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
        # This only cancels tasks with late acknowledgement, of which there are none. Without it each lost connection
        # logs a warning of many lines.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_detect_quorum_queues": False,
        "enable_utc": True,
    }
    if is_sentinel(url):
        _spell_sentinels_out(SentinelUrl.parse(url), options, settings)
    else:
        _spell_out(RedisUrl.parse(url), options)
    return options


def _spell_out(url: RedisUrl, options: dict[str, Any]) -> None:
    options["broker_url"] = url.for_kombu(password=True)  # for display only; `FleetApp` connects by the setting
    options["broker_transport_options"] |= url.options
    if url.scheme == "rediss":
        # Without this kombu would not verify the certificate at all.
        options["broker_use_ssl"] = {"ssl_cert_reqs": "required", **url.tls}


def _spell_sentinels_out(url: SentinelUrl, options: dict[str, Any], settings: Settings) -> None:
    patience = {"socket_connect_timeout": settings.connect_timeout, "socket_timeout": settings.connect_timeout}
    options["broker_url"] = url.for_kombu(password=True)
    options["broker_transport_options"] |= {
        "master_name": url.master_name,
        "sentinel_kwargs": url.sentinel_options(**patience),
    }
    if url.tls is not None:
        options["broker_use_ssl"] = dict(url.tls)
