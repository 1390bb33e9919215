"""Rewrites a collection without its removed chunks, in a separate process: `python -P vacuum.py FOLDER`.

In a worker, the engine would block all threads for seconds (6 to 8 s at 100,000 chunks), long enough to lose leases.
The program needs nothing from Sessionfleet, so it is run by its path and imports only the engine.
"""

from __future__ import annotations

import sys

from qdrant_edge import EdgeShard


def main(folder: str) -> None:
    """Run the engine's optimizers and flush the result to disk."""
    shard = EdgeShard.load(folder)
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main(sys.argv[1])
