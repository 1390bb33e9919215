"""`Prefer: wait=N` (RFC 7240): how long a caller would wait for a turn's end."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Depends, Header

LONGEST: Final = 300.0
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)


def wait_of(
    prefer: Annotated[
        str | None,
        Header(description="`wait=N`: wait so many seconds, at most 300, for its end.", examples=["wait=30"]),
    ] = None,
) -> float | None:
    """Seconds to wait; None where the caller does not say. Other preferences are ignored, as the RFC wants."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), LONGEST) if found else None


Wait = Annotated[float | None, Depends(wait_of)]


def applied(wait: float) -> dict[str, str]:
    """The header that says so."""
    return {"Preference-Applied": f"wait={wait:g}"}
