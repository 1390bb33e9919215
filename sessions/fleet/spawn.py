"""Starts a program so that it outlives its starter, or so that it does not. Run as a script, by its path.

    spawn.py detach PROGRAM [ARG ...]   in the background, in its own session; prints its process id
    spawn.py tie PARENT PROGRAM [ARG ...]   in place of this process; gets SIGTERM when process PARENT dies

It imports nothing of this package, so that it starts within milliseconds. `detach` forks here and not in the starter:
the program is then not a child that the starter has to wait for, and the starter may have threads. `tie` works on
Linux; elsewhere a program whose parent was killed stays until the next `sessionfleet up` or `down`.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def detach(argv: list[str]) -> None:
    """Run a program in the background."""
    pid = os.fork()
    if pid:
        print(pid)  # noqa: T201
        return
    os.setsid()
    os.dup2(2, 1)  # the starter reads our output to its end
    os.execvp(argv[0], argv)  # noqa: S606


def tie(parent: int, argv: list[str]) -> None:
    """Become a program that does not outlive `parent`."""
    if sys.platform == "linux":
        # The setting survives exec. SIGTERM: a worker then finishes its turns, or hands them over.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    if sys.argv[1] == "detach":
        detach(sys.argv[2:])
    else:
        tie(int(sys.argv[2]), sys.argv[3:])
