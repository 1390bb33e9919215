"""Where the lines of a chat come from: a person who types, a pipe, or the command line."""

from __future__ import annotations

import sys
from typing import Protocol

from sessions.cli.output import say


class Lines(Protocol):
    """The messages to the agent, and the answers when its tools ask.

    Attributes:
        typed: a person is typing: mistakes can be corrected, and a turn that fails does not end the chat.
        literal: lines that begin with a '/' are messages like all others.
    """

    typed: bool
    literal: bool

    def message(self) -> str | None:
        """The next message or command; None at the end."""
        ...

    def answer(self, prompt: str, draft: str = "") -> str | None:
        """The answer to a question, optionally with a draft to edit; None at the end."""
        ...


class TypedLines:
    """Lines that a person types, with line editing."""

    typed = True
    literal = False

    def message(self) -> str | None:
        """Ctrl-D and Ctrl-C end the chat here, because no turn is running."""
        try:
            return self._input("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            say()
            return None

    def answer(self, prompt: str, draft: str = "") -> str | None:
        """Ctrl-D means no answer; Ctrl-C is handled by the caller."""
        try:
            return self._input(prompt, draft).strip()
        except EOFError:
            say()
            return None

    def _input(self, prompt: str, draft: str = "") -> str:
        import readline  # noqa: PLC0415 - gives input() its line editing; only needed when a person types

        readline.set_startup_hook(lambda: readline.insert_text(draft))
        try:
            return input(prompt)
        finally:
            readline.set_startup_hook(None)


class PipedLines:
    """Lines of a file or another program, messages and answers alike."""

    typed = False
    literal = False

    def message(self) -> str | None:
        """The next line that is not empty."""
        for line in sys.stdin:
            if text := line.strip():
                return text
        return None

    def answer(self, prompt: str, draft: str = "") -> str | None:
        """The next line, echoed after its question."""
        text = self.message()
        say(f"{prompt}{text or ''}")
        return text


class OneMessage:
    """The message of `--message`; questions of its tools are answered by a person who types, or by a pipe."""

    typed = False
    literal = True

    def __init__(self, message: str, answers: Lines) -> None:
        self._message: str | None = message
        self._answers = answers

    def message(self) -> str | None:
        """The message, once."""
        message, self._message = self._message, None
        return message

    def answer(self, prompt: str, draft: str = "") -> str | None:
        """The answer to a question, from the terminal or the pipe."""
        return self._answers.answer(prompt, draft)
