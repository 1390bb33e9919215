"""The Celery application of a fleet, unaffected by another application's environment variables."""

from __future__ import annotations

from typing import Any

from celery import Celery

from broker_config.celery_options import broker_url, celery_options
from broker_config.settings import Settings


class FleetApp(Celery):  # type: ignore[misc]
    """A Celery application that takes its broker from our settings only, and has no result backend.

    Celery prefers `CELERY_BROKER_URL`, `CELERY_BROKER_READ_URL`, `CELERY_BROKER_WRITE_URL` and `CELERY_RESULT_BACKEND`
    to what its application configures. Those belong to the application that imports `sessions`, or to its tools.
    """

    backend_cls = "disabled"

    def __init__(self, name: str, settings: Settings, **options: Any) -> None:
        super().__init__(name, loader="celery.loaders.app:AppLoader", **options)
        self._fleet_broker = broker_url(settings)
        self.conf.update(celery_options(settings))

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        """A connection for receiving messages."""
        return super().connection_for_read(self._fleet_broker, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        """A connection for publishing."""
        return super().connection_for_write(self._fleet_broker, **options)
