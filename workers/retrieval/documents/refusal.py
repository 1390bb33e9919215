"""The exception with which parsers refuse a document.

Parsers do not know the document's name, and do not import `sessions.errors`, which would triple the start-up time of a
child process. The reader adds the name and raises the public error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why a document is refused. The values are the names of the public errors."""

    UNSUPPORTED = "DocumentUnsupported"
    EMPTY = "DocumentEmpty"
    CORRUPT = "DocumentCorrupt"
    ENCRYPTED = "DocumentEncrypted"
    TOO_LARGE = "DocumentTooLarge"


READABLE: Final = "PDF, DOCX, HTML, Markdown, text, CSV, JSON or a mail (.eml, .mhtml)"
"""What can be sent instead of a document of another kind."""


class Refusal(Exception):
    """A document cannot be parsed. `problem` continues a sentence that begins with its name: 'is encrypted; ...'."""

    def __init__(self, reason: Reason, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.problem = problem


def nested_too_deeply() -> Refusal:
    """The refusal of a document whose elements contain each other without end."""
    return Refusal(Reason.CORRUPT, "is nested too deeply")


def encrypted() -> Refusal:
    """The refusal of a document that needs a password."""
    return Refusal(Reason.ENCRYPTED, "is encrypted; save it without a password and send it again")
