"""The doctor's look at the gateway of this machine's settings."""

from __future__ import annotations

from typing import Final

from broker_config.settings import Settings
from sessions.cli.verdicts import Check, Verdict

_PATIENCE: Final = 2.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - where it is bound; it is asked on loopback


async def gateway_check(settings: Settings) -> Check:
    """Whether it answers, and whether it could have work done. None running is nothing wrong."""
    import httpx  # noqa: PLC0415 - heavy

    url = f"http://{_ANY.get(settings.gateway_host, settings.gateway_host)}:{settings.gateway_port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=_PATIENCE, trust_env=False) as client:
            health = (await client.get("/health")).json()
            ready = await client.get("/ready")
    except httpx.TransportError:
        return Check("gateway", Verdict.OK, f"none at {url}; `sessionfleet gateway` starts one")
    except ValueError:
        health = None
    if not isinstance(health, dict) or health.get("server") != "sessionfleet":
        advice = "give the gateway another one with SESSIONFLEET_GATEWAY_PORT"
        return Check("gateway", Verdict.WARNING, f"{url} is some other program's", advice)
    if ready.is_success:
        return Check("gateway", Verdict.OK, f"answers at {url}")
    advice = "is its REDIS_URL that of the workers? Its log says what is wrong"
    return Check("gateway", Verdict.BROKEN, f"{url} answers, but can have no work done ({ready.status_code})", advice)
