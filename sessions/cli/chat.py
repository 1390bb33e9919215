"""`sessionfleet chat`: talk to an agent in a terminal, with streamed answers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sessions.api.session import Session
from sessions.cli.chat_lines import Lines, OneMessage, PipedLines, TypedLines
from sessions.cli.conversation import Conversation
from sessions.cli.screen import Screen


def chat(
    session: Annotated[str, typer.Argument(help="The session's id; the session is created if it does not exist.")],
    *,
    agent: Annotated[str, typer.Option(help="The agent's name.")] = "Assistant",
    instructions: Annotated[str | None, typer.Option(help="The agent's instructions.")] = None,
    model: Annotated[str | None, typer.Option(help="The model, as provider:model; by default the worker's.")] = None,
    tool: Annotated[
        list[str] | None, typer.Option(help="The name of a tool that the workers know; repeat for more.")
    ] = None,
    memory: Annotated[bool | None, typer.Option(help="Use the memory of the session and its user.")] = None,
    knowledge: Annotated[bool | None, typer.Option(help="Search the documents of the session and its user.")] = None,
    base: Annotated[list[str] | None, typer.Option(help="A knowledge base to search as well; repeat for more.")] = None,
    user: Annotated[str | None, typer.Option(help="The user who is chatting; the first user owns the session.")] = None,
    message: Annotated[str | None, typer.Option(help="Send this one message and exit.")] = None,
) -> None:
    """Chat with an agent. /help lists the commands; /quit or Ctrl-D exits; Ctrl-C cancels a running turn, or exits.

    Calls that need an approval are shown and asked about. Without a terminal, messages and answers are lines of stdin.
    """
    conversation = Session(session, user_id=user)
    partner = conversation.Agent(
        agent, instructions=instructions, model=model, tools=tool or (), memory=memory, knowledge=base or knowledge
    )
    lines: Lines = TypedLines() if sys.stdin.isatty() else PipedLines()
    if message is not None:
        lines = OneMessage(message, lines)
    raise typer.Exit(Conversation(conversation, partner, Screen(), lines).run())
