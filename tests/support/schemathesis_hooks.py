"""Loaded by Schemathesis: how it sends the lines of an import, a media type that it does not know."""

from __future__ import annotations

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: object) -> bytes:
    """Any text, as it is."""
    return str(value).encode("utf-8", "replace")
