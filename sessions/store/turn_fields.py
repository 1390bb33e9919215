"""The fields of a turn whose values are encrypted, as `KeyRing.seal` names the place of a value."""

from __future__ import annotations

from typing import Final

REQUEST: Final = "request"
RESULT: Final = "result"
ERROR: Final = "error"
MESSAGE: Final = "message"
PARTS: Final = "parts"
WEBHOOK: Final = "webhook"
METADATA: Final = "metadata"
