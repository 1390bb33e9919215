"""Rewrites a collection without its removed chunks: `python -P vacuum.py FOLDER`, a program of its own.

The engine would stop every thread of its process for seconds (4 s at 100,000 chunks), long enough to lose leases.
It needs nothing of Sessionfleet, so it is run as a file and imports the engine only.
"""

from __future__ import annotations

import sys

from qdrant_edge import EdgeShard


def main(folder: str) -> None:
    """Do what the engine finds worth doing, and write it down."""
    shard = EdgeShard.load(folder)
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main(sys.argv[1])
