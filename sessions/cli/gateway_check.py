"""The check of the gateway that this machine's settings configure."""

from __future__ import annotations

from typing import Final

from broker_config.settings import Settings
from sessions.cli.verdicts import Check, Verdict

_PATIENCE: Final = 2.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - the address it is bound to; the check uses loopback


async def gateway_check(settings: Settings) -> Check:
    """Whether the gateway answers and is ready. It is not a problem if none is running."""
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
        advice = "set another port for the gateway with SESSIONFLEET_GATEWAY_PORT"
        return Check("gateway", Verdict.WARNING, f"another program uses {url}", advice)
    if ready.is_success:
        return Check("gateway", Verdict.OK, f"answers at {url}")
    advice = "does its REDIS_URL match the workers'? Its log has the cause"
    return Check("gateway", Verdict.BROKEN, f"{url} answers but is not ready ({ready.status_code})", advice)
