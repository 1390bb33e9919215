"""Logging: structlog's events on the standard library's loggers, so that every program keeps its own handlers.

A library must not configure logging for its host; only the worker and the CLI call `configure_logging`.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from typing import Any, Final

import structlog
from structlog.contextvars import get_contextvars

from broker_config.printable import printable, printable_json
from broker_config.settings import Settings

# Two lines per wake-up that say nothing beyond what Flower shows, and print what the task returned.
_PER_TASK = ("celery.worker.strategy", "celery.app.trace")
# Where a record of the standard library carries the fields of one of our events.
_FIELDS: Final = "sessionfleet"
# The attributes that every record has; all others were passed to the logger with `extra=`.
_STANDARD: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message", _FIELDS}
)


class _Plain(logging.Formatter):
    """Lines for people. An error's text cannot control the terminal that shows the log."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Json(logging.Formatter):
    """One JSON object per line, for every record: ours, Celery's, other libraries'."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, _FIELDS, None)
        if fields is None:
            extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            # The ids of the turn or request during which another library logs this.
            fields = {**get_contextvars(), **extra, "event": record.getMessage()}
        line = {
            **fields,
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[1] is not None:
            kind, error, _ = record.exc_info
            line["exception"] = {
                "type": f"{kind.__module__}.{kind.__qualname__}" if kind else "",
                "message": str(error),
                "traceback": self.formatException(record.exc_info),
            }
        if record.stack_info:
            line["stack"] = record.stack_info
        return printable_json(json.dumps(line, ensure_ascii=False, default=repr))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events have a name and values: `log.warning("lease_lost", session=...)`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,  # ids of the request (gateway) or the turn (worker)
            _to_record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return logger


def _to_record(_: Any, __: str, event: Any) -> tuple[tuple[str], dict[str, Any]]:
    """The arguments for the standard logger: a line for people, and the fields for programs."""
    exc_info = event.pop("exc_info", None)
    values = [f"{key}={value!r}" for key, value in event.items() if key != "event"]
    return (" ".join([str(event["event"]), *values]),), {"exc_info": exc_info, "extra": {_FIELDS: dict(event)}}


def configure_logging(settings: Settings) -> None:
    """Send this process's log to stderr, as lines for people or as one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    plain = _Plain("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    handler.setFormatter(_Json() if settings.log_json else plain)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(settings.log_json)  # warnings as lines of the log, for programs that parse it
    # At INFO it logs every URL, including the secrets in it.
    logging.getLogger("httpx").setLevel(max(root.level, logging.WARNING))
    if root.level > logging.DEBUG:
        for name in _PER_TASK:
            logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
