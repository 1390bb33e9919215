"""A worker that was told to stop ends, whatever hangs in it."""

from __future__ import annotations

import subprocess
import sys

from workers.process.exit_deadline import EXIT_STATUS

_HANGS = """
import threading
from workers.process.exit_deadline import ExitDeadline
ExitDeadline(0.2, lambda: {"turns": ["chat~1"]})
threading.Thread(target=threading.Event().wait).start()  # not a daemon: the interpreter waits for it
"""
_ENDS = "from workers.process.exit_deadline import ExitDeadline; ExitDeadline(3600, dict)"


def test_a_process_that_hangs_is_ended_and_says_what_did_not_end() -> None:
    """With a separate status, so that a supervisor sees that it did not stop cleanly."""
    ended = subprocess.run([sys.executable, "-c", _HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == EXIT_STATUS
    assert "worker_did_not_stop" in ended.stdout + ended.stderr
    assert "chat~1" in ended.stdout + ended.stderr


def test_a_process_that_ends_by_itself_does_not_wait_for_the_deadline() -> None:
    """The timer does not delay the exit."""
    assert subprocess.run([sys.executable, "-c", _ENDS], timeout=60, check=False).returncode == 0
