"""`sessionfleet gateway`: the fleet over HTTP."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from broker_config.settings import load_settings
from broker_config.telemetry import configure_logging
from sessions.cli.output import print_fields, say
from sessions.errors import MissingExtra
from sessions.fleet.process import missing_for_gateway

if TYPE_CHECKING:
    from sessions.gateway.access import Access


def gateway(
    host: Annotated[str | None, typer.Option(help="The address to bind (default: SESSIONFLEET_GATEWAY_HOST).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port (default: SESSIONFLEET_GATEWAY_PORT).")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve without authentication even if other machines can reach it.")
    ] = False,
    _node: Annotated[str | None, typer.Option("--node", hidden=True)] = None,
) -> None:
    """Serve the fleet over HTTP: POST /agent, and REST under /v1. Ctrl-C stops it."""
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
    server.run(lambda access: _tell(server.url, access))


def _tell(url: str, access: Access) -> None:
    for warning in access.warnings:
        say(f"WARNING: {warning}", stderr=True)
    print_fields(
        {
            "gateway": url,
            "agent": f"{url}/agent",
            "docs": f"{url}/docs",
            "openapi": f"{url}/openapi.json",
            "authentication": access.summary,
        }
    )
    sys.stdout.flush()
