"""Logging: structlog's events on the standard library's loggers, so that every program keeps its own handlers.

A library must not configure logging for its host; only the worker and the CLI call `configure_logging`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog

from broker_config.settings import Settings

# Two lines for each wake-up say nothing that Flower does not show, and print what the task returned.
_PER_TASK = ("celery.worker.strategy", "celery.app.trace")


def _render(_: Any, __: str, event: dict[str, Any]) -> str:
    said = str(event.pop("event"))
    event.pop("exc_info", None)
    return " ".join([said, *(f"{key}={value!r}" for key, value in event.items())])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return cast(str, structlog.processors.JSONRenderer()(None, "", event))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events have a name and values: `log.warning("lease_lost", session=...)`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,  # the gateway's `request_id`
            structlog.processors.format_exc_info,
            _with_traceback,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return logger


def _with_traceback(logger: Any, name: str, event: Any) -> str:
    trace = event.pop("exception", None)
    text = _render(logger, name, event)
    return f"{text}\n{trace}" if trace else text


def configure_logging(settings: Settings) -> None:
    """Send this process's log to stderr, as lines for people or one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    handler.setFormatter(_Json() if settings.log_json else plain)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.getLogger("httpx").setLevel(max(root.level, logging.WARNING))  # it says each URL, with the secrets in it
    if root.level > logging.DEBUG:
        for name in _PER_TASK:
            logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
