"""The command `sessionfleet`: its commands by name, and how errors are shown."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from broker_config.embedded import EmbeddedServerError
from broker_config.settings import SettingsError
from broker_config.version import package_version
from sessions.cli import (
    approvals,
    budgets,
    chat,
    dead,
    doctor,
    fleet,
    gateway,
    keys,
    knowledge,
    limits,
    memory,
    schedules,
    sessions,
    turns,
    usage,
    worker,
)
from sessions.cli.output import print_error, print_exception, say
from sessions.errors import SessionfleetError

app = typer.Typer(
    name="sessionfleet",
    help="Distributed agent sessions: run a fleet, inspect it, chat with agents.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(fleet.up)
app.command()(fleet.down)
app.command(context_settings=worker.PASS_ON)(worker.worker)
app.command()(gateway.gateway)
app.command()(fleet.workers)
app.command()(doctor.doctor)
app.command()(chat.chat)
app.add_typer(sessions.app, name="sessions")
app.add_typer(turns.app, name="turns")
app.command()(approvals.approvals)
app.add_typer(schedules.app, name="schedules")
app.add_typer(dead.app, name="dead")
app.add_typer(memory.app, name="memory")
app.add_typer(knowledge.app, name="knowledge")
app.command()(usage.usage)
app.add_typer(budgets.app, name="budget")
app.add_typer(keys.app, name="keys")
app.add_typer(limits.app, name="limits")
app.command(context_settings=worker.PASS_ON)(worker.flower)


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"sessionfleet {package_version()}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Distributed agent sessions: run a fleet, inspect it, chat with agents."""


def main() -> None:
    """Run a command. Our own errors are one line; with SESSIONFLEET_LOG_LEVEL=DEBUG, a traceback."""
    sys.excepthook = print_exception
    try:
        app()
    except (SessionfleetError, SettingsError, EmbeddedServerError) as error:
        # Read from the environment and not from the settings, which may be what is wrong.
        if os.environ.get("SESSIONFLEET_LOG_LEVEL", "").upper() == "DEBUG":
            raise
        print_error(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
