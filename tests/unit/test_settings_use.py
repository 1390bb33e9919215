"""Every setting is read by something: one that is documented and does nothing misleads its users."""

from __future__ import annotations

import re

import pytest

from broker_config.settings import Settings
from tests.support.fleet import ROOT

SOURCES = "\n".join(
    path.read_text() for package in ("broker_config", "sessions", "workers") for path in (ROOT / package).rglob("*.py")
)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_a_setting_is_read(name: str) -> None:
    """Each setting is used somewhere besides its definition."""
    assert re.search(rf"\.{name}\b", SOURCES)
