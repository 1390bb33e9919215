"""The gateway of docker-compose.yml, run as a process: it comes up before there is a key, and one can be made then."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import yaml

from tests.support import preloaded
from tests.support.fleet import ROOT
from tests.support.gateway import GatewayProcess, running_gateway
from tests.support.servers import Server


def test_a_gateway_that_others_reach_waits_for_its_first_key(new_server: Server, tmp_path: Path) -> None:
    """It asks for a key from the start; the command that the file names makes one, which is good at once."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gateway"]
    program, command, *options = shlex.split(service["command"])
    assert (program, command) == ("sessionfleet", "gateway")
    of_containers = {"REDIS_URL", "QDRANT_URL"}
    env = {k: str(v) for k, v in service["environment"].items() if v is not None and k not in of_containers}
    with running_gateway(new_server, tmp_path, *options, **env) as gateway, gateway.client() as nobody:
        assert nobody.get("/v1/agents").status_code == 401
        with gateway.client(_made_key(gateway)) as caller:
            assert caller.get("/v1/agents", headers={"X-User-ID": "ann"}).status_code == 200


def _made_key(gateway: GatewayProcess) -> str:
    """By `docker compose exec gateway ...`: in the gateway's environment."""
    line = next(line for line in (ROOT / "docker-compose.yml").read_text().splitlines() if "exec gateway" in line)
    command = shlex.split(line.partition("exec gateway sessionfleet ")[2])
    made = preloaded.run(
        [sys.executable, "-m", "sessions.cli.main", *command],
        env=gateway.env,
        check=True,
    )
    return made.stdout.strip()
