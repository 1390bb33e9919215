"""A terminal that shows a chat: streamed texts, notes between them, a sign that something is happening."""

from __future__ import annotations

from rich.console import Console
from rich.status import Status

from sessions.cli.output import safe, terminal


class Screen:
    """Writes a chat to a terminal or a pipe. All output is escaped."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = terminal() if console is None else console
        self._in_line = False
        self._status: Status | None = None

    @property
    def interactive(self) -> bool:
        """Whether the output is a terminal that can move its cursor."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def busy(self, doing: str) -> None:
        """Show that something is happening, until the next text or note; in a terminal only."""
        if not self.interactive:
            return
        if self._status is None:
            self.end_line()
            self._status = self._console.status(safe(doing, "dim"), spinner_style="dim")
            self._status.start()
        else:
            self._status.update(safe(doing, "dim"))

    def idle(self) -> None:
        """Remove that sign."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def write(self, text: str) -> None:
        """A piece of a text, after the previous piece."""
        if text:
            self.idle()
            self._console.print(safe(text), end="")
            self._in_line = not text.endswith("\n")

    def line(self, text: str, style: str = "") -> None:
        """A separate line."""
        self.idle()
        self.end_line()
        self._console.print(safe(text, style))

    def note(self, text: str) -> None:
        """A line about the chat that is not part of it."""
        self.line(f"({text})", "dim")

    def end_line(self) -> None:
        """Begin a new line, unless one has just begun."""
        if self._in_line:
            self._console.print()
        self._in_line = False
