"""The clock by which a worker knows how long its leases last."""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def lease_time() -> float:
        """Seconds that only grow, also while the machine sleeps.

        `time.monotonic` stands still then, on Linux: a worker that wakes up would take a lease for its own that ended
        long ago. No clock of a virtual machine counts a pause of its hypervisor: that one only the store can tell.
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def lease_time() -> float:
        """Seconds that only grow."""
        return time.monotonic()
