"""What can be typed instead of a message: commands that begin with a '/'."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.cli.chat_answers import settle
from sessions.cli.chat_lines import Lines
from sessions.cli.screen import Screen
from sessions.client.per_process import get_client
from sessions.client.transcript import Message
from sessions.errors import BadRequest, TurnNotFound
from sessions.protocol.turn import TurnStatus

HELP: Final = """\
/history [N]  show the messages of the last N turns (10)
/pending      show the calls that turns of this session wait for, and answer them
/cancel       cancel the open turns of this session
/help         show this help
/quit         exit; so does Ctrl-D
To send a message that begins with a '/', type two of them: //etc/hosts"""
RECENT_TURNS: Final = 3
_HISTORY_TURNS: Final = 10
_MOST_TURNS: Final = 1000
RECENT_CHARS: Final = 300
# Open turns are the youngest ones of their session, apart from some that have been waiting for a long time.
_LOOKED_AT: Final = 200


class Commands:
    """The commands of one conversation."""

    def __init__(self, session: Session, screen: Screen, lines: Lines) -> None:
        self._session = session
        self._screen = screen
        self._lines = lines

    def run(self, line: str) -> Turn | None:
        """Run a command. If a turn can continue now, it is returned for the caller to follow.

        Raises:
            BadRequest: there is no such command.
        """
        name, _, rest = line.removeprefix("/").partition(" ")
        match name:
            case "help":
                self._screen.line(HELP)
            case "history":
                self.history(_number(rest))
            case "pending":
                return self._pending()
            case "cancel":
                self._cancel()
            case _:
                raise BadRequest(
                    f"there is no command {line!r}; /help lists the commands, and // begins a message with a '/'"
                )
        return None

    def history(self, turns: int, longest: int | None = None) -> int:
        """Show the messages of the last turns; returns their number."""
        page = self._session.history(turns, order="newest")
        for message in page:
            self._show(message, longest)
        return len(page)

    def open_turns(self) -> list[Turn]:
        """The session's open turns, oldest first."""
        return [turn for turn, _ in self._session.portal.call(self._open())]

    def waiting(self) -> list[Turn]:
        """The turns that wait for an answer."""
        found = self._session.portal.call(self._open())
        return [turn for turn, status in found if status is TurnStatus.WAITING]

    async def _open(self) -> list[tuple[Turn, TurnStatus]]:
        client, keys = get_client(self._session.settings), self._session.keys

        async def status_of(part: str) -> TurnStatus:
            try:
                return (await client.turns.read(keys, part)).status
            except TurnNotFound:  # it has just expired
                return TurnStatus.CANCELLED

        await client.open()
        parts = (await client.stores.turns.listed(keys))[-_LOOKED_AT:]
        statuses = await asyncio.gather(*map(status_of, parts))
        found = zip(parts, statuses, strict=True)
        return [(Turn(client, keys, part), status) for part, status in found if not status.final]

    def _show(self, message: Message, longest: int | None) -> None:
        text = message.text if longest is None or len(message.text) <= longest else f"{message.text[:longest]}…"
        if message.tool is not None and message.role == "assistant":
            self._screen.note(f"calls {message.tool} {json.dumps(message.args, ensure_ascii=False)}")
        elif message.tool is not None:
            self._screen.note(f"{message.tool} returned {text}")
        else:
            self._screen.line(f"{'you' if message.role == 'user' else message.agent}> {text}", "dim")

    def _pending(self) -> Turn | None:
        waiting = self.waiting()
        if not waiting:
            self._screen.note("no turn of this session is waiting for an answer")
        for turn in waiting:
            if settle(turn, self._screen, self._lines):
                return turn
        return None

    def _cancel(self) -> None:
        found = self.open_turns()
        for turn in found:
            self._screen.note(f"turn {turn.id}: {turn.cancel()}")
        if not found:
            self._screen.note("this session has no open turns")


def _number(text: str) -> int:
    if not text.strip():
        return _HISTORY_TURNS
    if not text.strip().isdecimal() or not 0 < int(text) <= _MOST_TURNS:
        raise BadRequest(f"/history {text}: enter a number of turns from 1 to {_MOST_TURNS}")
    return int(text)
