"""The version of this package, read once: it stands in a file."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def package_version() -> str:
    """The installed version; `source tree` where nothing is installed."""
    try:
        return metadata.version("sessionfleet")
    except metadata.PackageNotFoundError:
        return "source tree"
