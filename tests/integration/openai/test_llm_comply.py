"""`llm-comply`, a conformance suite written by others, on our gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess

SKIPPED = {"openai-chat": ["chat-reasoning-summary"], "open-responses": ["reasoning-summary"]}
WARNED = {"openai-chat": [], "open-responses": ["compact-response"]}
"""Responses are not compacted by clients here, and the suite says that many services do without it."""


@pytest.mark.parametrize("form", list(SKIPPED))
def test_nothing_fails(gateway_process: GatewayProcess, fleet: Fleet, form: str) -> None:
    """Reasoning is skipped, because no model here has OpenAI's names."""
    command = [str(Path(sys.executable).with_name("llm-comply")), "run", "--format", form, "--json"]
    options = ["-u", f"{gateway_process.url}/v1", "-k", "none", "-m", "assistant"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    print(done.stdout[-20000:], done.stderr)
    report = json.loads(done.stdout)
    assert report["summary"]["failed"] == 0
    assert [result["id"] for result in report["results"] if "warnings" in result] == WARNED[form]
    assert [result["id"] for result in report["results"] if result["status"] == "skipped"] == SKIPPED[form]
