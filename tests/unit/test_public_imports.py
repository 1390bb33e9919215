"""What users import: these paths stay, wherever the code behind them moves."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import sessions

PUBLIC = {
    "sessions.errors": ["SessionfleetError", "TurnFailed", "BackendError", "BadRequest"],
    "sessions.sse": ["MEDIA_TYPE", "HEADERS", "KEEP_ALIVE"],
    "sessions.tools": ["tool", "ToolContext", "OutsideResult"],
    "sessions.protocol": ["Event", "EventType", "TurnStatus", "Policy", "Usage", "TurnError", "AgentConfig"],
    "sessions.client": ["get_client", "fleet_info"],
    "sessions.webhooks": ["verify_webhook"],
    "sessions.sources": ["Text", "Address"],
    "sessions.cli.main": ["main", "app"],
    "workers": ["HookContext", "register_agent", "register_hooks", "register_model"],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_path_has_its_names(module: str) -> None:
    """Those that the documents name, and those of PraisonAI's examples."""
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []


def test_what_the_package_exports_is_there() -> None:
    """`from sessions import *` imports each name, and each once."""
    assert [name for name in sessions.__all__ if not hasattr(sessions, name)] == []
    assert len(set(sessions.__all__)) == len(sessions.__all__)


@pytest.mark.parametrize(
    "module", ["sessions.api.agent", "sessions.api.session", "sessions.client", "sessions.store.turns"]
)
def test_any_part_may_be_imported_first(module: str) -> None:
    """A stand-alone agent can open its session, whichever module was the first."""
    code = f"import {module}; from sessions.api.agent import Agent; Agent.open_session"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
