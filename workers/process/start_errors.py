"""What a worker prints when it cannot start: one line that says what to do, like every command."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from broker_config.embedded import EmbeddedServerError
from broker_config.settings import Settings, SettingsError
from sessions.errors import SessionfleetError
from sessions.own_packages import HiddenPackage


@contextmanager
def errors_in_one_line(settings: Settings) -> Iterator[None]:
    """On an error of ours, log it as one line and exit with status 1. With log level DEBUG, keep its traceback."""
    try:
        yield
    except (SessionfleetError, SettingsError, EmbeddedServerError, HiddenPackage) as error:
        if settings.log_level == "DEBUG":
            raise
        logging.getLogger(__name__).critical("the worker cannot start: %s", error)
        raise SystemExit(1) from None  # Celery would log any other exception with its traceback
