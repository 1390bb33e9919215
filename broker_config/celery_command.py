"""What Sessionfleet adds to Celery's command line: the reason why `celery -A workers` found no application.

If the working directory contains a `workers`, Celery imports that one. If it has no Celery application, Celery reports
only that "module 'workers' has no attribute 'celery'", and none of our code runs that could say more. Celery imports
this module, an entry point of the group `celery.commands`, whenever its command line starts, also for applications that
have nothing to do with Sessionfleet: so it must stay light, and prints nothing unless that happened.
"""

from __future__ import annotations

import atexit
import runpy
import sys
from pathlib import Path
from typing import Final

import click
from celery import Celery

_OWN_PACKAGES: Final = Path(__file__).parents[1] / "sessions" / "own_packages.py"


@click.command("sessionfleet", hidden=True)
def command() -> None:
    """Say where Sessionfleet's commands are. Celery expects a command of its entry points."""
    click.echo("Sessionfleet has its own command line: sessionfleet --help")


def explain() -> None:
    """Say whose `workers` Celery imported, if it is the user's and contains no application."""
    words = {word.removeprefix("--app=").removeprefix("-A") for word in sys.argv[1:]}
    imported = [module for name in ("workers", "workers.celery") if (module := sys.modules.get(name)) is not None]
    if "workers" not in words or not imported or "sessions" in sys.modules:
        return  # another application, or our code has run and said what there was to say
    if any(isinstance(value, Celery) for module in imported for value in vars(module).values()):
        return  # the user's own application
    if (message := _hidden_workers()) is not None:
        click.echo(message, err=True)


def _hidden_workers() -> str | None:
    # By its path: importing the package `sessions` would load the whole client.
    own_packages = runpy.run_path(str(_OWN_PACKAGES))
    try:
        own_packages["require_own"]("workers")
    except own_packages["HiddenPackage"] as error:
        return str(error)
    return None


atexit.register(explain)
