"""The exception with which parsers refuse a document.

Parsers do not know the document's name, and do not import `sessions.errors`, which would triple the start-up time of a
child process. The reader adds the name and raises the public error.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a document is refused. The values are the names of the public errors."""

    UNSUPPORTED = "DocumentUnsupported"
    EMPTY = "DocumentEmpty"
    CORRUPT = "DocumentCorrupt"
    ENCRYPTED = "DocumentEncrypted"
    TOO_LARGE = "DocumentTooLarge"


class Refusal(Exception):
    """A document cannot be parsed. `problem` continues a sentence that begins with its name: 'is encrypted; ...'."""

    def __init__(self, reason: Reason, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.problem = problem
