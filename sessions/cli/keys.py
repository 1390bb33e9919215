"""`sessionfleet keys`: keys for SESSIONFLEET_ENCRYPTION_KEYS, and (`keys api`) those of the gateway's callers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from broker_config.encryption_keys import new_key
from sessions.cli import api_keys
from sessions.errors import BadRequest

app = typer.Typer(help="Keys that seal what is in the store, and keys of the gateway's callers.", no_args_is_help=True)
app.add_typer(api_keys.app, name="api")


@app.command()
def new(name: Annotated[str | None, typer.Argument(help="The key's id; default: the time.")] = None) -> None:
    """Print a new key, to be put in front of the others in SESSIONFLEET_ENCRYPTION_KEYS."""
    try:
        print(new_key(name or f"k{datetime.now(UTC):%Y%m%d%H%M%S}"))
    except ValueError as error:
        raise BadRequest(str(error)) from error


@app.callback()
def _group() -> None:
    """Typer would make a group of one command that command itself."""
