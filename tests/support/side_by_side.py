"""How `make test` spreads the tests over several processes."""

from __future__ import annotations

import functools
import os
import re
import time
import uuid
import zlib
from pathlib import Path

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[2]
# The files that take longest begin first, and short ones come last, so that all processes end at about the same time.
LONGEST = (
    "integration/test_retrieval_crashes.py",
    "acceptance/test_benchmarks.py",
    "properties/test_protocol.py",
    "integration/test_web_examples.py",
    "integration/test_fleet_cli.py",
    "integration/test_cli_retrieval.py",
    "integration/test_samples.py",
    "integration/test_sealed_turns.py",
    "integration/test_delegation.py",
    "integration/test_examples.py",
    "chaos/",
    "acceptance/",
    "properties/",
    "integration/",
)
# Each process starts what its tests ask for. So that not every process starts a fleet, these are enough for all:
_FLEETS = 3
_RUN = "SF_TEST_RUN"


class SideBySide(LoadScopeScheduling):
    """Tests of a file stay in one process, as they share what their module starts."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid.partition("::")[0])


@functools.cache
def scope_of(path: str) -> str:
    """What a file's tests share a process with: each other, or others that use the fleet of the session."""
    text = (ROOT / path).read_text()
    if re.search(r"def test_\w+\([^)]*\bfleet: Fleet\b", text) and not re.search(r"def fleet\(|running_fleet\(", text):
        return f"fleet {zlib.crc32(path.encode()) % _FLEETS}"
    return path


def begin_with_the_longest(items: list[pytest.Item]) -> None:
    """Sort the tests by their files."""
    items.sort(key=lambda item: _place(item.nodeid.partition("::")[0]))


@functools.cache
def _place(path: str) -> int:
    if scope_of(path) != path:
        return -1
    places = (place for place, name in enumerate(LONGEST) if path.startswith(f"tests/{name}"))
    return next(places, len(LONGEST))


def mark_run() -> None:
    """Mark this process, and with it all that it starts, as parts of one run."""
    os.environ[_RUN] = uuid.uuid4().hex


def end_run(folder: Path) -> None:
    """End what is left of the run: after Ctrl-C, processes of pytest are gone before they ended what they started.

    Args:
        folder: the run's temporary one, in which servers work; a server's title covers the mark in its environment.
    """
    while sum(_ended(process, folder) for process in psutil.process_iter()):
        time.sleep(0.1)  # what started others meanwhile is gone now


def _ended(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        left = process.environ().get(_RUN) == os.environ[_RUN] or Path(process.cwd()).is_relative_to(folder)
        if left:
            process.kill()
    except psutil.Error:
        return False
    return left
