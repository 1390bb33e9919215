"""Schemathesis reads the OpenAPI document, and tries what it allows, and what it does not, on a real gateway.

`make fuzz` is the long version.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessions.gateway.api_key import digest_of, new_key
from sessions.gateway.principal import ALL_RIGHTS
from sessions.store.api_keys import ApiKeyRecord
from sessions.store.keys import API_KEYS
from tests.support.fleet import ROOT, Fleet
from tests.support.gateway import running_gateway
from tests.support.servers import Server

SECONDS = int(os.environ.get("SF_FUZZ_SECONDS", "0"))
SHORT = ("--phases", "examples,fuzzing", "--max-examples", "3", "--generation-deterministic")
LONG = ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "200", "--max-time", str(SECONDS))


def key_for(server: Server) -> str:
    """An API key with every right, which acts for users."""
    key_id, key = new_key()
    record = ApiKeyRecord(
        id=key_id,
        tenant="default",
        acts_for_users=True,
        rights=tuple(ALL_RIGHTS),
        digest=digest_of(key),
        created_ms=time.time_ns() // 1_000_000,
    )
    with server.client() as store:
        store.hset(API_KEYS, key_id, record.model_dump_json(exclude_defaults=True))
    return key


def within_reach(document: dict[str, Any]) -> dict[str, Any]:
    """The document for what this fleet has: a queue with workers, no turns of next year (a stream of a turn that does
    not run does not end), and no webhooks, because they would be sent to real hosts.
    """
    schemas = document["components"]["schemas"]
    forms = document["paths"]["/v1/sessions/{session_id}/knowledge"]["post"]["requestBody"]["content"]
    for body in (
        schemas["NewTurn"],
        schemas["NewSchedule"],
        schemas["NewTeam"],
        *(form["schema"] for form in forms.values()),
    ):
        del body["properties"]["webhook"]
    del schemas["NewTurn"]["properties"]["not_before"]
    for name in ("NewSession", "NewTurn", "NewSchedule"):
        schemas[name]["properties"]["queue"] = {"const": "turns"}
    return document


@pytest.mark.timeout(SECONDS + 300)
def test_the_gateway_keeps_what_its_document_says(new_server: Server, tmp_path: Path) -> None:
    """No 5xx, no status, header, type or body that is not documented; what breaks the schema is refused, what keeps
    it is taken; no method and no credential that is not meant is let through."""
    fleet = Fleet(tmp_path / "fleet", new_server)
    env = {"SESSIONFLEET_GATEWAY_AUTH": "on", "SESSIONFLEET_GATEWAY_RATE": "0", "SESSIONFLEET_TURN_TIMEOUT": "20"}
    try:
        fleet.start("fuzzed", SESSIONFLEET_MODEL="offline")
        with running_gateway(new_server, tmp_path / "gateway", **env) as gateway:
            fleet.ready()
            document = tmp_path / "openapi.json"
            document.write_text(json.dumps(within_reach(httpx.get(f"{gateway.url}/openapi.json").json())))
            tried = subprocess.run(
                [
                    str(Path(sys.executable).with_name("schemathesis")),
                    *("--config-file", str(ROOT / "tests" / "schemathesis.toml"), "run", str(document)),
                    *("--url", gateway.url, "--header", f"Authorization: Bearer {key_for(new_server)}"),
                    # One user, so that values of a user have an owner.
                    *("--header", "X-User-ID: fuzz", "--continue-on-failure", "--no-shrink", "--warnings", "off"),
                    *(LONG if SECONDS else SHORT),
                ],
                cwd=tmp_path,
                env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            print(tried.stdout[-20_000:])
            assert tried.returncode == 0, tried.stderr[-2000:]
            assert "Traceback" not in gateway.log
    finally:
        fleet.close()
