"""Reads the Lua scripts: each transition is one file in `lua/`, with a header that `lua_header.py` describes.

A line `--!include name` stands for a fragment in `lua/lib/`. The names of the header become locals of the script.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from sessions.store.lua_header import BadHeader, Header

_INCLUDE: Final = "--!include "
_SCRIPTS: Final = resources.files(__package__) / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A transition of the protocol: its text with the includes filled in, and the digest that names it."""

    name: str
    text: str
    sha: str
    header: Header


@cache
def script(name: str) -> Script:
    """The script of this name.

    Raises:
        BadHeader: its header does not have the form that `lua_header.py` describes.
    """
    source = (_SCRIPTS / f"{name}.lua").read_text("utf-8")
    try:
        header = Header.parse(source)
    except BadHeader as error:
        raise BadHeader(f"{name}.lua: {error}") from error
    shebang, *lines = source.splitlines()
    body = [_fragment(line.removeprefix(_INCLUDE)) if line.startswith(_INCLUDE) else line for line in lines]
    text = "\n".join((shebang, header.prologue, *body)) + "\n"
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), header)


@cache
def script_names() -> tuple[str, ...]:
    """The names of all scripts."""
    return tuple(sorted(p.name.removesuffix(".lua") for p in _SCRIPTS.iterdir() if p.name.endswith(".lua")))


def _fragment(name: str) -> str:
    return (_SCRIPTS / "lib" / f"{name}.lua").read_text("utf-8")
