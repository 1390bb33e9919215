"""The time limit for a worker's exit once it was told to stop.

A rolling deploy must not wait for ever for something that hangs, such as a thread that cannot be stopped or a
library's own shutdown. Turns that have not ended by then are left as after a crash: other workers take them over when
their leases expire.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final

from broker_config.telemetry import get_logger

_log = get_logger(__name__)
EXIT_STATUS: Final = 70
"""`EX_SOFTWARE`: the process had to be ended."""


class ExitDeadline:
    """Ends the process after a number of seconds, unless it has exited by itself.

    Args:
        seconds: counted from now.
        unfinished: returns what to log about the work that did not end.
    """

    def __init__(self, seconds: float, unfinished: Callable[[], dict[str, Any]]) -> None:
        self._seconds = seconds
        self._unfinished = unfinished
        timer = threading.Timer(seconds, self._exit)
        timer.daemon = True  # the process must not wait for this thread
        timer.start()

    def _exit(self) -> None:
        try:
            hint = "other workers take over its turns when their leases expire"
            _log.critical("worker_did_not_stop", seconds=self._seconds, hint=hint, **self._unfinished())
        finally:
            os._exit(EXIT_STATUS)
