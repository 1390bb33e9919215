"""`sessionfleet up`, `down` and `workers`: the processes of a fleet."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from broker_config.embedded import EmbeddedServer
from broker_config.settings import Settings, load_settings
from sessions.cli.output import ago, cell, print_fields, print_json, print_styled, print_table, say
from sessions.cli.store import running_store
from sessions.fleet.autostart import stop_fleet
from sessions.fleet.home import Fingerprint, FleetHome
from sessions.fleet.process import missing_for_gateway, need
from sessions.fleet.supervisor import Supervisor
from sessions.store.activity import look

Home = Annotated[Path | None, typer.Option(help="The folder of the fleet's data (default: SESSIONFLEET_HOME).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_STYLES = ("cyan", "magenta", "green", "yellow", "blue")


def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of worker processes.")] = 2,
    gateway: Annotated[bool, typer.Option(help="Also serve the fleet over HTTP.")] = True,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The gateway's port (default: SESSIONFLEET_GATEWAY_PORT).")
    ] = None,
    home: Home = None,
    background: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a fleet in the foreground: the server (unless REDIS_URL is set), workers and gateway. Ctrl-C stops it."""
    settings = _settings(home)
    need("pydantic_ai")
    if background is not None:
        supervisor = Supervisor(
            settings, _say_to_log, workers=workers, autostarted=True, known_as=_fingerprint(background)
        )
        raise typer.Exit(supervisor.run())
    if port is not None:
        settings = settings.model_copy(update={"gateway_port": port})
    serves = gateway and _gateway_can_run(settings)
    supervisor = Supervisor(settings, _say_in_colour, workers=workers, gateway=serves)
    supervisor.on_ready = lambda: _tell_next(supervisor, settings, gateway=gateway)
    raise typer.Exit(supervisor.run())


def down(home: Home = None) -> None:
    """Stop every process of a home: supervisor, workers and server. The data stays."""
    settings = _settings(home)
    for line in stop_fleet(settings.home) or [f"nothing is running in {str(FleetHome(settings.home).path)!r}"]:
        say(line)


def workers(as_json: AsJson = False) -> None:
    """List the running workers."""
    seen = asyncio.run(look(running_store(load_settings())))
    if as_json:
        print_json([{**w.model_dump(), "last_seen": seen.last_seen.get(w.id)} for w in seen.workers])
        return
    if not seen.workers:
        say("no worker is running: start one with `sessionfleet up` or `sessionfleet worker`")
        return
    now = time.time()
    rows = [
        (
            w.id,
            w.pid,
            " ".join(w.queues),
            f"{w.running}/{w.concurrency}",
            w.turns_done,
            ago(now - w.started),
            ago(seen.last_seen.get(w.id, 0.0)),
            w.default_model,
            cell(" ".join(w.tools)),
        )
        for w in seen.workers
    ]
    print_table(
        ("worker", "pid", "queues", "running", "done", "up", "last seen", "model", "tools"), rows, spare=("pid", "up")
    )


def _settings(home: Path | None) -> Settings:
    settings = load_settings()
    return settings if home is None else settings.model_copy(update={"home": home})


def _gateway_can_run(settings: Settings) -> bool:
    """Whether the gateway is installed. Its port must be free, and that is checked before anything is started.

    Raises:
        BadRequest: another program uses the port.
    """
    if missing_for_gateway() is not None:
        return False
    from sessions.gateway.address import bound  # noqa: PLC0415 - an extra

    if FleetHome(settings.home).running() is None:  # otherwise report that instead
        bound(settings.gateway_host, settings.gateway_port).close()
    return True


def _tell_next(supervisor: Supervisor, settings: Settings, *, gateway: bool) -> None:
    server = EmbeddedServer(settings.home)
    print_fields(
        {
            "store": f"{server.redis_url} (process {server.pid()})" if settings.embedded else "REDIS_URL",
            "workers": ", ".join(f"{name} (process {pid})" for name, pid in supervisor.running().items()),
            "gateway": _gateway_address(settings) if gateway else "none",
            "model": settings.model or "offline: set SESSIONFLEET_MODEL and the provider's key for a real one",
            "next": "in another terminal: sessionfleet chat demo · sessionfleet doctor · sessionfleet down",
        }
    )


def _gateway_address(settings: Settings) -> str:
    missing = missing_for_gateway()
    if missing is not None:
        return f"none: {missing} is not installed, run `pip install 'sessionfleet[gateway]'`"
    return f"http://{settings.gateway_host}:{settings.gateway_port}" if settings.gateway_port else "see its own line"


def _say_in_colour(source: str, line: str) -> None:
    style = "bold" if source == "fleet" else _STYLES[sum(source.encode()) % len(_STYLES)]
    print_styled((f"{source:9}", style), f"| {line}")


def _say_to_log(source: str, line: str) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    say(f"{stamp} {source}: {line}")


def _fingerprint(text: str) -> Fingerprint:
    pairs = (part.partition("=") for part in text.split(";"))
    return {name: digest for name, _, digest in pairs}
