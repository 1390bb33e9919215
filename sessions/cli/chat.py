"""`sessionfleet chat`: talk to an agent in a terminal, its words appearing as they come."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sessions.api.session import Session
from sessions.cli.chat_lines import Lines, OneMessage, PipedLines, TypedLines
from sessions.cli.conversation import Conversation
from sessions.cli.screen import Screen


def chat(
    session: Annotated[str, typer.Argument(help="The session's id; it is made when it does not exist.")],
    *,
    agent: Annotated[str, typer.Option(help="The agent's name.")] = "Assistant",
    instructions: Annotated[str | None, typer.Option(help="Its instructions.")] = None,
    model: Annotated[str | None, typer.Option(help="provider:model; by default the worker's.")] = None,
    tool: Annotated[list[str] | None, typer.Option(help="A tool of the workers, by name; again for more.")] = None,
    memory: Annotated[bool | None, typer.Option(help="Whether it uses the memory of session and user.")] = None,
    knowledge: Annotated[bool | None, typer.Option(help="Whether it searches documents of session and user.")] = None,
    base: Annotated[list[str] | None, typer.Option(help="A knowledge base to search, too; again for more.")] = None,
    user: Annotated[str | None, typer.Option(help="Who talks; the first user owns the session.")] = None,
    message: Annotated[str | None, typer.Option(help="Send this one message and leave.")] = None,
) -> None:
    """Talk to an agent: /help lists commands, /quit or Ctrl-D leaves, Ctrl-C cancels a running turn, or else leaves.

    Calls that need an approval are shown and asked about. Without a terminal, messages and answers are lines of stdin.
    """
    partner = Session(session, user_id=user).Agent(
        agent, instructions=instructions, model=model, tools=tool or (), memory=memory, knowledge=base or knowledge
    )
    lines: Lines = TypedLines() if sys.stdin.isatty() else PipedLines()
    if message is not None:
        lines = OneMessage(message, lines)
    raise typer.Exit(Conversation(partner, Screen(), lines).run())
