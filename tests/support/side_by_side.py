"""Which tests share a process, and which begin first, when `make test` spreads them over several processes."""

from __future__ import annotations

import os
import uuid
import zlib

import psutil
import pytest

# Most of the long tests are in the first folders. The short ones come last, so that all processes end about together.
_FOLDERS = ("chaos", "acceptance", "properties", "integration", "fundamentals", "unit", "scripts")
# Each process starts what its tests ask for. So that not every process starts a fleet, these are enough for all:
_FLEETS = 3
_RUN = "SF_TEST_RUN"


def mark_run() -> None:
    """Mark this process, and with it all that it starts, as parts of one run."""
    os.environ[_RUN] = uuid.uuid4().hex


def end_run() -> None:
    """End what is left of the run: after Ctrl-C, processes of pytest are gone before they ended what they started."""
    for process in psutil.process_iter():
        try:
            left = process.pid != os.getpid() and process.environ().get(_RUN) == os.environ[_RUN]
            if left:
                process.kill()
        except psutil.Error:
            continue


def arrange(items: list[pytest.Item]) -> None:
    """Give tests that share what is slow to start to one process, and let the long ones begin first."""
    for item in items:
        if isinstance(item, pytest.Function) and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_place)


def _group(item: pytest.Function) -> str | None:
    module = item.nodeid.partition("::")[0]
    scopes = {name: found[-1].scope for name, found in item._fixtureinfo.name2fixturedefs.items()}
    if scopes.get("fleet") == "session":
        return f"fleet {zlib.crc32(module.encode()) % _FLEETS}"
    if "module" in scopes.values():
        return module
    return next((name for name in ("gateway_process", "secured_gateway", "secured_store") if name in scopes), None)


def _place(item: pytest.Item) -> tuple[bool, int, bool]:
    folder = item.nodeid.split("/")[1]
    place = _FOLDERS.index(folder) if folder in _FOLDERS else len(_FOLDERS)
    return item.get_closest_marker("slow") is None, place, item.get_closest_marker("xdist_group") is None
