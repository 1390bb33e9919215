"""What can be typed instead of a message: commands that begin with a '/'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.api.turns import TurnInfo
from sessions.cli.chat_answers import settle
from sessions.cli.chat_lines import Lines
from sessions.cli.screen import Screen
from sessions.client.transcript import Message
from sessions.errors import BadRequest, TurnNotFound
from sessions.protocol.turn import TurnStatus
from sessions.store.files import StoredFile

HELP: Final = """\
/history [N]  show the messages of the last N turns (10)
/regenerate   replace the last answer by a new one
/edit TEXT    send TEXT in place of your last message
/pending      show the calls that turns of this session wait for, and answer them
/attach PATH  send this image, document or audio file with the next message
/cancel       cancel the open turns of this session
/help         show this help
/quit         exit; so does Ctrl-D
To send a message that begins with a '/', type two of them: //etc/hosts"""
RECENT_TURNS: Final = 3
_HISTORY_TURNS: Final = 10
_MOST_TURNS: Final = 1000
RECENT_CHARS: Final = 300


class Commands:
    """The commands of one conversation."""

    def __init__(self, session: Session, screen: Screen, lines: Lines) -> None:
        self._session = session
        self._screen = screen
        self._lines = lines
        self.attached: list[StoredFile] = []
        """Files that the next message sends."""

    def run(self, line: str) -> Turn | None:
        """Run a command. If a turn can continue now, it is returned for the caller to follow.

        Raises:
            BadRequest: there is no such command, or nothing that it could be done with.
        """
        name, _, rest = line.removeprefix("/").partition(" ")
        match name:
            case "help":
                self._screen.line(HELP)
            case "history":
                self.history(_number(rest))
            case "regenerate":
                return self._regenerate(None)
            case "edit":
                return self._regenerate(_text(rest))
            case "pending":
                return self._pending()
            case "attach":
                self._attach(rest.strip())
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

    def open_turns(self) -> list[TurnInfo]:
        """The session's open turns, in the order in which they run."""
        return list(self._session.turns(open=True, limit=_MOST_TURNS))

    def waiting(self) -> list[Turn]:
        """The turns that wait for an answer."""
        return [info.turn for info in self.open_turns() if info.status is TurnStatus.WAITING]

    def _show(self, message: Message, longest: int | None) -> None:
        text = message.text if longest is None or len(message.text) <= longest else f"{message.text[:longest]}…"
        if message.tool is not None and message.role == "assistant":
            self._screen.note(f"calls {message.tool} {json.dumps(message.args, ensure_ascii=False)}")
        elif message.tool is not None:
            self._screen.note(f"{message.tool} returned {text}")
        else:
            self._screen.line(f"{'you' if message.role == 'user' else message.agent}> {text}", "dim")

    def _regenerate(self, message: str | None) -> Turn:
        try:
            return self._session.submit_regenerate(message=message, stream=True)
        except TurnNotFound as error:
            raise BadRequest(str(error)) from error

    def _pending(self) -> Turn | None:
        waiting = self.waiting()
        if not waiting:
            self._screen.note("no turn of this session is waiting for an answer")
        for turn in waiting:
            if settle(turn, self._screen, self._lines):
                return turn
        return None

    def _attach(self, path: str) -> None:
        """Upload a file; the next message sends it.

        Raises:
            BadRequest: there is no such file, or it cannot be sent.
        """
        if not path:
            raise BadRequest("/attach: name a file, as in /attach photo.jpg")
        try:
            file = self._session.upload(Path(path).expanduser())
        except FileNotFoundError as error:
            raise BadRequest(f"/attach: {error}") from error
        self.attached.append(file)
        self._screen.note(f"{file.name} ({file.media_type}, {file.size:,} bytes) goes with the next message")

    def _cancel(self) -> None:
        found = self.open_turns()
        for info in found:
            self._screen.note(f"turn {info.id}: {info.turn.cancel()}")
        if not found:
            self._screen.note("this session has no open turns")


def _text(text: str) -> str:
    if not text.strip():
        raise BadRequest("/edit: enter the new message after it, on the same line")
    return text.strip()


def _number(text: str) -> int:
    if not text.strip():
        return _HISTORY_TURNS
    if not text.strip().isdecimal() or not 0 < int(text) <= _MOST_TURNS:
        raise BadRequest(f"/history {text}: enter a number of turns from 1 to {_MOST_TURNS}")
    return int(text)
