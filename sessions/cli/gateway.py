"""`sessionfleet gateway`: the fleet over HTTP."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from broker_config.settings import load_settings
from sessions.cli.output import print_fields
from sessions.errors import MissingExtra
from sessions.telemetry import configure_logging

_MODULES = ("fastapi", "uvicorn", "sse_starlette", "jwt", "multipart")


def gateway(
    host: Annotated[str | None, typer.Option(help="The address to bind (SESSIONFLEET_GATEWAY_HOST).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Its port (SESSIONFLEET_GATEWAY_PORT).")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Without authentication, even where others reach it.")
    ] = False,
) -> None:
    """Serve the fleet over HTTP: POST /agent, and REST under /v1. Ctrl-C ends it."""
    missing = missing_for_gateway()
    if missing is not None:
        raise MissingExtra(f"{missing} is not installed: run `pip install 'sessionfleet[gateway]'`")
    from sessions.gateway.server import Server  # noqa: PLC0415 - an extra

    settings = load_settings()
    configure_logging(settings)
    server = Server(
        settings,
        settings.gateway_host if host is None else host,
        settings.gateway_port if port is None else port,
        insecure=insecure,
    )
    server.run(
        lambda: print_fields(
            {"gateway": server.url, "agent": f"{server.url}/agent", "openapi": f"{server.url}/openapi.json"}
        )
    )


def missing_for_gateway() -> str | None:
    """A module that the gateway needs and that is not installed (the extra `gateway`), if any."""
    return next((module for module in _MODULES if importlib.util.find_spec(module) is None), None)
