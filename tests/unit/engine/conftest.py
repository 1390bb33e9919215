from __future__ import annotations

import pytest
from pydantic_ai import models

from .doubles import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(autouse=True)
def _no_paid_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for a real provider is a mistake."""
    monkeypatch.setattr(models, "ALLOW_MODEL_REQUESTS", False)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)
