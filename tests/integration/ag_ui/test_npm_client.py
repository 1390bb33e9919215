"""AG-UI's client for JavaScript, from npm, on our gateway. `make clients` installs it and runs this."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid

import pytest

from tests.support.fleet import ROOT, Fleet
from tests.support.gateway import GatewayProcess

CLIENT = ROOT / "tests" / "clients" / "ag_ui"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.skipif(not (CLIENT / "node_modules").is_dir(), reason="`make clients` installs the package")
def test_the_javascript_client_works_unchanged(gateway_process: GatewayProcess, fleet: Fleet) -> None:
    """Chat, history, tools of both sides, interrupts, a lost connection, and errors; it validates every event."""
    treasury = f"ag-ui-{uuid.uuid4().hex}"
    fleet.session(treasury).Agent(name="Treasurer", tools=["refund"]).chat("SAY ready")
    command = ["node", str(CLIENT / "conversation.mjs"), gateway_process.url, treasury]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads(found.pop("history")) == [
        ["user", "SAY one two three"], ["assistant", "one two three"],
        ["user", "RECITE"], ["assistant", "SAY one two three | one two three"],
    ]  # fmt: skip
    assert found == {
        "chat": "SAY one two three | one two three",
        "tool": ['CALL stamp({"text": "letter"})', "stamp", "stamped letter", "ok: stamped letter"],
        "outside": ["ok: rain", 0],
        "interrupt": ["tool_call", 'May refund({"amount": 90}) run?'],
        "resumed": ["ok: refunded 5", 0],
        "cut": "connection lost",
        "whole": ["one two three four five six"],
        "error": 404,
        "warnings": [],
    }
