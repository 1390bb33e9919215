"""Checks that `sessions` is Sessionfleet's. The wrong one would not contain `sessions.own_packages`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def require_own_sessions() -> None:
    """Check that `sessions`, imported or to be imported, is ours.

    Raises:
        RuntimeError: it is not; the message has both paths. For Celery's sake it is not an ImportError.
    """
    own = Path(__file__).parents[1] / "sessions"
    spec = find_spec("sessions")
    found = None if spec is None else next(iter(spec.submodule_search_locations or ()), spec.origin)
    if found is None or Path(found).resolve() != own.resolve():
        raise RuntimeError(
            f"Sessionfleet needs its own package 'sessions' ({str(own)!r}), but Python finds {found!r} first: rename "
            "that module, or remove its folder from Python's search path; `sessionfleet worker` and `sessionfleet up` "
            "work in any directory"
        )
