"""What the property tests share."""

from __future__ import annotations

import pytest
from hypothesis.internal.conjecture import providers


@pytest.fixture(autouse=True)
def _same_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `derandomize` mean it: Hypothesis draws constants of all modules that happen to be imported by then."""
    monkeypatch.setattr(providers, "_get_local_constants", providers.Constants)
    monkeypatch.setattr(providers, "CONSTANTS_CACHE", type(providers.CONSTANTS_CACHE)(1024))
