"""A chat with one agent in a terminal or through a pipe: turn after turn, each shown as it comes."""

from __future__ import annotations

import contextlib
import json
from typing import Final

from sessions.api.agent import Agent
from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.cli.chat_answers import settle
from sessions.cli.chat_commands import RECENT_CHARS, RECENT_TURNS, Commands
from sessions.cli.chat_lines import Lines
from sessions.cli.interrupts import INTERRUPTED, heed_interrupts, interrupt_later
from sessions.cli.output import print_error
from sessions.cli.screen import Screen
from sessions.client.per_process import get_client
from sessions.errors import BadRequest, RateLimited, SessionBusy, SessionfleetError, TurnFailed, TurnNotFound
from sessions.protocol.event import Event, EventType
from sessions.protocol.turn import TurnStatus

_CANCEL_PATIENCE: Final = 15.0
_UNANSWERED: Final = 1


class Conversation:
    """Reads messages from `lines`, sends them, and writes to the screen what happens."""

    def __init__(self, session: Session, agent: Agent, screen: Screen, lines: Lines) -> None:
        self._agent = agent
        self._screen = screen
        self._lines = lines
        self._commands = Commands(session, screen, lines)

    def run(self) -> int:
        """Chat until the lines end; returns the exit status.

        If a person is typing, a turn that fails or is cancelled does not end the chat.
        """
        heed_interrupts()
        try:
            if self._lines.typed:
                self._welcome()
            self._tell_what_waits()
            if self._lines.typed:
                self._continue()
            while (message := self._lines.message()) not in (None, "/quit", "/exit"):
                if (status := self._heed(message)) and not self._lines.typed:
                    return status
        except KeyboardInterrupt:  # no turn is running, or Ctrl-C was pressed again while a turn was being cancelled
            self._screen.end_line()
            return INTERRUPTED
        finally:
            self._screen.idle()
        return 0

    def _welcome(self) -> None:
        session = self._agent.session
        if self._commands.history(RECENT_TURNS, RECENT_CHARS):
            self._screen.note("/history shows more")
        self._screen.line(
            f"session {session.session_id!r}; /help lists the commands, /quit or Ctrl-D exits, Ctrl-C cancels a "
            f"running turn. You are talking to {self._agent.name}."
        )

    def _tell_what_waits(self) -> None:
        """Until the waiting turn has its answer, a message after it gets none."""
        for turn in self._commands.waiting():
            self._screen.note(
                f"turn {turn.id} waits for an answer, and later messages wait for it: /pending shows the question"
            )

    def _continue(self) -> None:
        """Show the turn that runs, or is next: somebody left in the middle of its answer."""
        running = next((info for info in self._commands.open_turns() if info.status is not TurnStatus.WAITING), None)
        if running is None:
            return
        self._screen.note("a turn of this session has not ended; this is its answer from the beginning")
        self._screen.line(f"you> {running.message}", "dim")
        try:
            self._follow(running.turn)
        except (TurnFailed, TurnNotFound) as error:
            print_error(str(error))

    def _heed(self, message: str) -> int:
        """Run a command, or send a message and show its answer; returns an exit status."""
        try:
            if not message:
                return 0
            if message.startswith("/") and not self._lines.literal:
                if not message.startswith("//"):
                    turn = self._commands.run(message)
                    return 0 if turn is None else self._follow(turn)
                message = message[1:]
            return self._follow(*self._accepted(message))
        except (TurnFailed, SessionBusy, RateLimited, BadRequest) as error:
            if not self._lines.typed:
                raise
            print_error(str(error))
            return 1

    def _accepted(self, message: str) -> tuple[Turn, bool]:
        """The message's turn, and whether Ctrl-C was pressed while it was being accepted."""
        client = get_client(self._agent.session.settings)
        client.portal.call(client.open())  # this may take a while, and may be interrupted
        with interrupt_later() as interrupted:  # a turn accepted without our knowing its id could not be cancelled
            attached = self._commands.attached
            turn = self._agent.submit([message, *attached] if attached else message, stream=True)
            attached.clear()
        return turn, bool(interrupted)

    def _follow(self, turn: Turn, interrupted: bool = False) -> int:
        try:
            if interrupted:
                raise KeyboardInterrupt
            if not self._show(turn):
                self._screen.note("later messages wait for it; /pending shows the question again")
                return _UNANSWERED
            turn.result()  # raises the turn's error
        except KeyboardInterrupt:
            self._cancel(turn)
            return INTERRUPTED
        finally:
            self._screen.idle()
            self._screen.end_line()
        return 0

    def _cancel(self, turn: Turn) -> None:
        """Cancel the turn and wait for its end; another Ctrl-C stops the wait."""
        self._screen.busy("cancelling")
        status = turn.cancel()
        if not status.final:
            with contextlib.suppress(SessionfleetError):
                turn.result(_CANCEL_PATIENCE)
            status = turn.status
        self._screen.note(str(status) if status.final else "its worker was told to stop")

    def _show(self, turn: Turn) -> bool:
        """Show the turn's events to their end; False if it waits for an answer that is not given here."""
        printed = False
        self._screen.busy("waiting for a worker")
        for event in turn.events():
            if event.type is EventType.TEXT_DELTA:
                printed = True
                self._screen.write(event.text)
            elif event.type is EventType.TEXT and not printed:
                self._screen.write(str(event.data.get("text", "")))
            elif event.type is EventType.WAITING and turn.status is TurnStatus.WAITING:
                if not settle(turn, self._screen, self._lines):
                    return False
            elif note := _note_of(event):
                self._screen.note(note)
            if doing := _doing(event):
                self._screen.busy(doing)
        return True


def _note_of(event: Event) -> str | None:
    data = event.data
    match event.type:
        case EventType.TOOL_CALL:
            return f"calls {data.get('tool')} {json.dumps(data.get('args', ''), ensure_ascii=False)}"
        case EventType.ATTEMPT_RESET:
            return "the worker was lost; another one continues and repeats what was not completed"
        case EventType.HANDED_OVER:
            return "the worker is stopping; another one continues"
        case EventType.RETRYING:
            return f"the model could not answer and will be asked again: {data.get('why', '')}"
        case _:
            return None


def _doing(event: Event) -> str | None:
    """What happens after an event, until the next one."""
    match event.type:
        case EventType.STARTED | EventType.TOOL_RESULT | EventType.RESUMED | EventType.ATTEMPT_RESET:
            return "thinking"
        case EventType.THINKING_DELTA | EventType.RETRIEVED | EventType.STEERED:
            return "thinking"
        case EventType.TOOL_CALL:
            return f"{event.data.get('tool')} runs"
        case EventType.RETRYING:
            return "pausing before the next try"
        case EventType.WAITING | EventType.ANSWERED | EventType.HANDED_OVER:
            return "waiting to continue"
        case _:
            return None
