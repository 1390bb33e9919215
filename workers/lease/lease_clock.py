"""The clock by which a worker measures how long its leases last."""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def lease_time() -> float:
        """Seconds on a clock that never goes back, and that counts while the machine sleeps.

        On Linux `time.monotonic` stops during sleep: a worker that wakes up would believe that it still holds leases
        that expired long ago. No clock inside a virtual machine counts the time for which its hypervisor paused it.
        Such a worker learns from the store that its leases expired.
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def lease_time() -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()
