"""The result of a check of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PROVIDER_KEYS: Final = {
    "openai": "OPENAI_API_KEY",
    "openai-chat": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google-gla": "GOOGLE_API_KEY",
    "google": "GOOGLE_API_KEY",
}
"""The variable of a provider's key, by the prefix of its models' names."""


class Verdict(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`."""

    name: str
    verdict: Verdict
    says: str
    advice: str = ""
