"""`sessionfleet worker` and `flower`: Celery's own programs, with this fleet's settings."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

from broker_config.embedded import EmbeddedServer, resolved
from broker_config.settings import Settings, load_settings, queue_name
from sessions.cli.store import running_store
from sessions.errors import StoreUnavailable
from sessions.fleet.home import FleetHome
from sessions.fleet.process import celery_worker, child_environment, need
from sessions.own_packages import own_program

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": False}


class Role(StrEnum):
    """What a worker does."""

    TURNS = "turns"
    RETRIEVAL = "retrieval"
    ALL = "all"


def worker(
    context: typer.Context,
    role: Annotated[
        Role | None,
        typer.Option(help="Run turns, search memory and knowledge, or both (default; with --queues: turns)."),
    ] = None,
    queues: Annotated[str | None, typer.Option(help="Queues to serve, comma separated: turns,vip")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, max=10_000, help="Turns at the same time.")] = None,
    name: Annotated[str | None, typer.Option(help="The worker's name; must be unique on this host.")] = None,
    loglevel: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Run one worker in the foreground. Arguments after `--` go to Celery's worker."""
    need("pydantic_ai")
    settings = load_settings()
    if queues is not None:
        names = tuple(queue_name(part.strip()) for part in queues.split(",") if part.strip())
        settings = settings.model_copy(update={"queues": names, "role": Role.TURNS.value})
    if role is not None:
        settings = settings.model_copy(update={"role": role.value})
    if concurrency is not None:
        settings = settings.model_copy(update={"concurrency": concurrency})
    node = f"{name or f'worker-of-{os.getpid()}'}@%h"
    if settings.embedded:
        node = FleetHome(settings.home).worker_name(node.removesuffix("@%h"))
        _start_server(settings)
    command = celery_worker(node, loglevel or settings.log_level)
    _become([*command, *context.args], resolved(settings))


def flower(context: typer.Context) -> None:
    """Run Flower, Celery's web view of the fleet. Arguments after `--` go to Flower."""
    need("flower")
    # By default Flower has no login, so it must not be on the network unless that is asked for.
    local = [] if any(arg.startswith("--address") for arg in context.args) else ["--address=127.0.0.1"]
    command = own_program("celery", "-A", "workers", "flower", *local, *context.args)
    _become(command, running_store(load_settings()))


def _become(command: list[str], settings: Settings) -> NoReturn:
    os.execve(sys.executable, command, child_environment(settings))  # noqa: S606


def _start_server(settings: Settings) -> None:
    if not settings.autostart:
        raise StoreUnavailable("REDIS_URL is not set, and SESSIONFLEET_AUTOSTART is off: set REDIS_URL")
    EmbeddedServer(settings.home).ensure_started()
