"""Limits the processor time of a part of the work of a child process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfCpuTime(BaseException):
    """The part took too much processor time. No `Exception`, which the limited code might catch."""


@contextmanager
def limited_cpu_time(seconds: float) -> Iterator[None]:
    """Raise `OutOfCpuTime` in the body after this processor time. The process must not use SIGPROF otherwise."""

    def stop(signum: int, frame: object) -> None:
        raise OutOfCpuTime

    before = signal.signal(signal.SIGPROF, stop)
    # Again each second: an exception within a finalizer is lost.
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
