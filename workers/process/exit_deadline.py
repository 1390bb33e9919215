"""The latest moment at which a worker that was told to stop exits.

Whatever hangs (a thread that nobody can stop, a library's own shutdown), a rolling deploy must not wait for it for
ever. What did not end by then is what a crash leaves: another worker takes it over when its lease has run out.
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
    """Ends the process after so many seconds, unless it has ended by itself before.

    Args:
        seconds: from now.
        unfinished: what to log about the work that did not end.
    """

    def __init__(self, seconds: float, unfinished: Callable[[], dict[str, Any]]) -> None:
        self._seconds = seconds
        self._unfinished = unfinished
        timer = threading.Timer(seconds, self._exit)
        timer.daemon = True  # it must not be what the process waits for
        timer.start()

    def _exit(self) -> None:
        try:
            hint = "its turns go to other workers when their leases run out"
            _log.critical("worker_did_not_stop", seconds=self._seconds, hint=hint, **self._unfinished())
        finally:
            os._exit(EXIT_STATUS)
