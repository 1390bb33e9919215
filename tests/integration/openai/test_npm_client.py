"""OpenAI's client for JavaScript, from npm, on our gateway. `make clients` installs it and runs this."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.support.fleet import ROOT, Fleet
from tests.support.gateway import GatewayProcess

CLIENT = ROOT / "tests" / "clients" / "openai"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.skipif(not (CLIENT / "node_modules").is_dir(), reason="`make clients` installs the package")
def test_the_javascript_client_works_unchanged(gateway_process: GatewayProcess, fleet: Fleet) -> None:
    """Models, chat, tools, conversations, responses and their streams, and errors."""
    command = ["node", str(CLIENT / "conversation.mjs"), f"{gateway_process.url}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "assistant" in found.pop("models")
    assert found == {
        "chat": "one two three",
        "tool": "ok: rain",
        "response": "My name is Alice | Hello Alice",
        "resumed": True,
        "follows": "good bye",
        "items": 6,
        "error": ["NotFoundError", 404, "model_not_found"],
    }
