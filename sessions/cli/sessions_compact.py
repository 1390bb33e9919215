"""`sessionfleet sessions compact`: choose whose older turns are summarised."""

from __future__ import annotations

from typing import Annotated

import typer

from broker_config.settings import load_settings
from sessions.api.session import Session
from sessions.cli.output import say
from sessions.cli.store import running_store


def compact(
    session_id: str,
    off: Annotated[bool, typer.Option("--off", help="Delete the summary, and write no more.")] = False,
) -> None:
    """Have a model summarise the turns that leave a session's window of history, in the background."""
    Session(session_id, settings=running_store(load_settings())).update(compact="off" if off else "auto")
    say(f"session {session_id!r} is {'no longer' if off else 'now'} compacted")
