"""The gateway as a process: it answers, and ends when told to."""

from __future__ import annotations

from tests.support.gateway import GatewayProcess


def test_the_gateway_says_that_it_lives(gateway_process: GatewayProcess) -> None:
    """Without a credential, and whatever the store does."""
    with gateway_process.client() as client:
        health = client.get("/agent/health")
        assert health.status_code == 200
        assert health.json()["server"] == "sessionfleet"
