"""The header of a Lua script: its KEYS, its ARGV and its replies by name, and the Lua code that binds them.

    -- KEYS
    --   S: base of the session
    -- ARGV
    --   turn: id of the turn              one argument
    --   events[kind, data]: of each       any number of groups, each of two arguments
    -- Returns
    --   woken: queue, now_ms (prose)      a word, and the fields that follow it
    --   nothing (prose)

Lines that are indented further continue the item above them. Names come before the first `:` or `(`; what follows is
for people. Lists (`events[...]`) come last. An argument before each list but the last says how many groups it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

_SECTIONS: Final = ("KEYS", "ARGV", "Returns")
_ITEM: Final = re.compile(r"--   (?=\S)")
_NAME: Final = re.compile(r"(?P<name>\w+)(?P<group>\[[\w, ]*\])?")


class BadHeader(Exception):
    """A script's header does not have the form that `sessions/store/lua_header.py` describes."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A name of the header. A list has the names of its groups' parts."""

    name: str
    group: tuple[str, ...] = ()

    @property
    def is_list(self) -> bool:
        """Whether it stands for any number of values."""
        return bool(self.group)

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(self.group)}]" if self.group else self.name


@dataclass(frozen=True, slots=True)
class Header:
    """What a script takes and returns: `replies` has the fields of each reply by its first word."""

    keys: tuple[Parameter, ...]
    arguments: tuple[Parameter, ...]
    replies: Mapping[str, tuple[Parameter, ...]]

    @classmethod
    def parse(cls, text: str) -> Header:
        """The header of a script's text.

        Raises:
            BadHeader: a section is missing, or a line of it is none of the above.
        """
        sections = dict(_sections(text))
        if tuple(sections) != _SECTIONS:
            raise BadHeader(f"a header has the sections {', '.join(_SECTIONS)}; this one has {', '.join(sections)}")
        returned = (_reply(item) for item in sections["Returns"])
        return cls(keys=_parameters(sections["KEYS"]), arguments=_parameters(sections["ARGV"]), replies=dict(returned))

    @property
    def prologue(self) -> str:
        """Lua code, one line, that makes locals of KEYS and ARGV."""
        lines = []
        if any(key.is_list for key in self.keys):
            lines.append(f"local {self.keys[0].name} = KEYS")
        else:
            lines.append(f"local {', '.join(key.name for key in self.keys)} = unpack(KEYS)")
        single = [parameter.name for parameter in self.arguments if not parameter.is_list]
        lists = [parameter for parameter in self.arguments if parameter.is_list]
        if single:
            lines.append(f"local {', '.join(single)} = unpack(ARGV, 1, {len(single)})")
        if lists:
            lines.append(_lists(lists, len(single) + 1))
        return " ".join(lines)


def _lists(lists: Sequence[Parameter], first: int) -> str:
    """Lua code that makes a table of each list. Not by `unpack`, which fails for more than about 8,000 values."""
    code = [f"local {', '.join(each.name for each in lists)} = {', '.join('{}' for _ in lists)} do local at = {first}"]
    for each in lists[:-1]:
        values = f"ARGV[at] * {len(each.group)}"
        code.append(f"for i = 1, {values} do {each.name}[i] = ARGV[at + i] end at = at + 1 + {values}")
    code.append(f"for i = at, #ARGV do {lists[-1].name}[i - at + 1] = ARGV[i] end end")
    return " ".join(code)


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """The items of each section, continuation lines joined."""
    name, items = "", list[str]()
    for line in text.splitlines()[1:]:
        if not line.startswith("--") or line.startswith("--!"):
            break
        if (heading := line.removeprefix("-- ")) in _SECTIONS:
            if name:
                yield name, items
            name, items = heading, []
        elif name and _ITEM.match(line):
            items.append(line[5:])
        elif name and items and line.startswith("--      "):
            items[-1] += " " + line[2:].strip()
        elif name:
            raise BadHeader(f"in section {name}: {line!r}")
    if name:
        yield name, items


def _parameters(items: Sequence[str]) -> tuple[Parameter, ...]:
    found = tuple(_parameter(item) for item in items)
    single_after_list = any(one.is_list and not other.is_list for one, other in pairwise(found))
    if single_after_list:
        raise BadHeader(f"lists come last: {', '.join(map(str, found))}")
    return found


def _parameter(item: str) -> Parameter:
    found = _NAME.match(item)
    if found is None:
        raise BadHeader(f"no name: {item!r}")
    group = found["group"]
    if group is None:
        return Parameter(found["name"])
    parts = tuple(part.strip() for part in group[1:-1].split(",") if part.strip())
    return Parameter(found["name"], parts or (found["name"],))


def _reply(item: str) -> tuple[str, tuple[Parameter, ...]]:
    """A word and its fields."""
    head = item.partition("(")[0]
    word, mark, fields = head.partition(":")
    if not word.strip().isidentifier():
        raise BadHeader(f"no word: {item!r}")
    named = re.findall(r"\w+(?:\[[^\]]*\])?", fields) if mark else []
    return word.strip(), _parameters(named)
