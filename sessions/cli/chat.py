"""`sessionfleet chat`: talk to an agent in a terminal, its words appearing as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from sessions.agent import Agent
from sessions.cli.interrupts import INTERRUPTED, heed_interrupts, interrupt_later
from sessions.cli.output import print_error, safe, say, terminal
from sessions.errors import SessionBusy, TurnFailed
from sessions.protocol import Event, EventType
from sessions.session import Session
from sessions.turn import Turn


def chat(
    session: Annotated[str, typer.Argument(help="The session's id; it is made when it does not exist.")],
    *,
    agent: Annotated[str, typer.Option(help="The agent's name.")] = "Assistant",
    instructions: Annotated[str | None, typer.Option(help="Its instructions.")] = None,
    model: Annotated[str | None, typer.Option(help="provider:model; by default the worker's.")] = None,
    user: Annotated[str | None, typer.Option(help="Who talks; the first user owns the session.")] = None,
    message: Annotated[str | None, typer.Option(help="Send this one message and leave.")] = None,
) -> None:
    """Talk to an agent. /quit or Ctrl-D leaves; Ctrl-C cancels a running turn, and leaves when none runs."""
    partner = Session(session, user_id=user).Agent(agent, instructions=instructions, model=model)
    conversation = Conversation(partner, terminal())
    if message is not None:
        status = conversation.run([message], go_on=False)
    elif sys.stdin.isatty():
        status = conversation.run(_typed(session, agent), go_on=True)
    else:
        status = conversation.run(_piped(), go_on=False)
    raise typer.Exit(status)


class Conversation:
    """One terminal talking with one agent."""

    def __init__(self, agent: Agent, console: Console) -> None:
        self._agent = agent
        self._console = console
        self._column = 0

    def run(self, messages: Iterator[str] | list[str], *, go_on: bool) -> int:
        """Send the messages one after the other; returns the exit status.

        With `go_on`, a turn that fails or is cancelled does not end the conversation.
        """
        heed_interrupts()
        for message in messages:
            try:
                status = self._turn(message)
            except (TurnFailed, SessionBusy) as error:
                if not go_on:
                    raise
                print_error(str(error))
                continue
            if status and not go_on:
                return status
        return 0

    def _turn(self, message: str) -> int:
        client = self._agent.session.client
        client.portal.call(client.open())  # this may take long, and may be interrupted
        with interrupt_later() as interrupted:  # an accepted turn whose id we never saw could not be cancelled
            turn = self._agent.submit(message, stream=True)
        try:
            if interrupted:
                raise KeyboardInterrupt
            self._show(turn)
            turn.result()  # raises what went wrong
        except KeyboardInterrupt:
            turn.cancel()
            self._note("cancelled")
            return INTERRUPTED
        finally:
            self._end_line()
        return 0

    def _show(self, turn: Turn) -> None:
        said = False
        for event in turn.events():
            if event.type is EventType.TEXT_DELTA:
                said = True
                self._write(event.text)
            elif event.type is EventType.TEXT and not said:
                self._write(str(event.data.get("text", "")))
            elif note := _note_of(event):
                self._note(note)

    def _write(self, text: str) -> None:
        self._console.print(safe(text), end="")
        if text:
            self._column = 0 if text.endswith("\n") else 1

    def _note(self, text: str) -> None:
        self._end_line()
        self._console.print(safe(f"({text})", "dim"))

    def _end_line(self) -> None:
        if self._column:
            self._console.print()
        self._column = 0


def _note_of(event: Event) -> str | None:
    data = event.data
    match event.type:
        case EventType.TOOL_CALL:
            return f"calls {data.get('tool')} {data.get('args', '')}"
        case EventType.ATTEMPT_RESET:
            return "the worker was lost; another one goes on, and says anew what was not finished"
        case EventType.HANDED_OVER:
            return "the worker stops; another one goes on"
        case EventType.RETRYING:
            return f"the model could not answer, it is asked again: {data.get('error', '')}"
        case _:
            return None


def _typed(session: str, agent: str) -> Iterator[str]:
    import readline  # noqa: F401, PLC0415 - gives input() its line editing; only when someone types

    say(f"session {session!r}; /quit or Ctrl-D leaves, Ctrl-C cancels a running turn. {agent} listens.")
    while True:
        try:
            line = input("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            say()
            return
        if line == "/quit":
            return
        if line:
            yield line


def _piped() -> Iterator[str]:
    for line in sys.stdin:
        if line.strip() == "/quit":
            return
        if line.strip():
            yield line.strip()
