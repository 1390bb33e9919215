"""The version of requests, records and registrations, which each of them carries in its field `v`."""

from __future__ import annotations

from typing import Final, Literal

WireVersion = Literal[1]
WIRE_VERSION: Final[WireVersion] = 1
