"""The log: lines for people that cannot control a terminal, objects for programs with every field as it is."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from broker_config.settings import Settings
from broker_config.telemetry import configure_logging, get_logger


class Log:
    """What a program with this setting writes to stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def configure(self, *, as_json: bool) -> None:
        self._written = io.StringIO()
        self._monkeypatch.setattr(sys, "stderr", self._written)
        configure_logging(Settings(redis_url="redis://localhost", log_json=as_json))

    @property
    def text(self) -> str:
        return self._written.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ("httpx", "celery.worker.strategy", "celery.app.trace")}
    try:
        yield Log(monkeypatch)
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, before in quiet.items():
            logging.getLogger(name).setLevel(before)


def test_an_event_is_an_object_with_its_values(log: Log) -> None:
    """Numbers stay numbers, the exception is a separate object, and the ids of the turn are included."""
    log.configure(as_json=True)
    ours = get_logger("workers.example")
    with bound_contextvars(turn="t~1"):
        ours.info("turn_ended", ms=12, cost=0.5, queues=("a", "b"))
        try:
            raise ValueError("no\nsuch \x1b]0;thing\x07")
        except ValueError:
            ours.exception("turn_broke", attempt=2)
    ended, broke = log.lines
    assert {"event": "turn_ended", "ms": 12, "cost": 0.5, "queues": ["a", "b"], "turn": "t~1"}.items() <= ended.items()
    assert (ended["level"], ended["logger"]) == ("info", "workers.example")
    assert (broke["event"], broke["attempt"], broke["level"]) == ("turn_broke", 2, "error")
    assert (broke["exception"]["type"], broke["exception"]["message"]) == (
        "builtins.ValueError", "no\nsuch \x1b]0;thing\x07",
    )  # fmt: skip
    assert 'raise ValueError("no' in broke["exception"]["traceback"]
    assert not {"\x1b", "\x07"} & set(log.text)


def test_lines_of_other_libraries_have_the_same_form(log: Log) -> None:
    """Celery's among them, with the fields that they give; and what a tool logs has the ids of its turn."""
    log.configure(as_json=True)
    celery = logging.getLogger("celery.worker.consumer")
    celery.warning("Received %s of %s", 1, "it", extra={"data": {"id": "abc"}, "odd": object()})
    with bound_contextvars(turn="t~1", session="default:s"):
        logging.getLogger("shop").error("charged", exc_info=KeyError("card"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
    received, charged, warned = log.lines
    assert (received["event"], received["data"], received["level"]) == ("Received 1 of it", {"id": "abc"}, "warning")
    assert received["odd"].startswith("<object")
    assert (charged["turn"], charged["session"]) == ("t~1", "default:s")
    assert charged["exception"]["type"] == "builtins.KeyError"
    assert (warned["logger"], "old way" in warned["event"]) == ("py.warnings", True)


def test_a_line_for_people_cannot_steer_their_terminal(log: Log) -> None:
    """Neither can an error's text, which may quote a message."""
    log.configure(as_json=False)
    try:
        raise ValueError("\x1b[2J\u202e gone")
    except ValueError as error:
        get_logger("workers.example").warning("turn_failed", turn="t~1", error=repr(error), exc_info=error)
    logging.getLogger("other").error("raw \x1b]0;title\x07\rover")
    assert "turn_failed turn='t~1' error=" in log.text
    assert r"ValueError: \x1b[2J\u202e gone" in log.text
    assert r"raw \x1b]0;title\x07\x0dover" in log.text
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(log.text)
