"""The version of this package, read from its metadata file once."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def package_version() -> str:
    """The installed version; `source tree` if nothing is installed."""
    try:
        return metadata.version("sessionfleet")
    except metadata.PackageNotFoundError:
        return "source tree"
