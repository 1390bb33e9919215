"""The Qdrant server that `make test-qdrant` names: read at import, before a fixture hides the developer's settings."""

from __future__ import annotations

import os

import pytest

SERVER_URL = os.environ.get("QDRANT_URL")
SERVER_KEY = os.environ.get("QDRANT_API_KEY")

embedded_only = pytest.mark.skipif(SERVER_URL is not None, reason="it is about the embedded index")


def server_settings() -> dict[str, str]:
    """The settings of workers that keep their documents there; none without a server."""
    named = {"QDRANT_URL": SERVER_URL, "QDRANT_API_KEY": SERVER_KEY}
    return {name: value for name, value in named.items() if value}
