"""How a parser says that it cannot read a document.

Parsers know neither the document's name nor `sessions.errors`, whose package would triple the start of a child;
the reader adds the name and raises the error.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why; the values are the names of the errors."""

    UNSUPPORTED = "DocumentUnsupported"
    EMPTY = "DocumentEmpty"
    CORRUPT = "DocumentCorrupt"
    ENCRYPTED = "DocumentEncrypted"
    TOO_LARGE = "DocumentTooLarge"


class Refusal(Exception):
    """A document that cannot be read; `problem` goes on after its name: 'is encrypted; save it ...'."""

    def __init__(self, reason: Reason, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.problem = problem
