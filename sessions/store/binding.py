"""Binds a Python signature to a Lua script by the names in the script's header.

A transition is declared as a function without a body. Its parameters are the script's arguments, its result type the
script's replies.

    @transition
    def watch_turn(*, turn: str, nonce: str, watch: Watch, on: bool) -> Watching | Missing: ...

    reply = await scripts.run(watch_turn(keys.pair, turn=part, nonce=nonce, watch="readers", on=True))

A reply is a dataclass, with the word as its name and the fields of the header; or a member of a StrEnum, if only the
word counts. When the script is loaded, both sides must have the same names in the same order.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cached_property
from itertools import chain
from types import NoneType, UnionType
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from sessions.errors import CorruptRecord
from sessions.store.lua_header import Parameter
from sessions.store.script_files import Script, script

Arg = str | bytes | int | float
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Decoder = Callable[[Any], Any]
Encoder = Callable[[Any], Arg]
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


class HeaderMismatch(TypeError):
    """A transition and the header of its script name different things."""


@dataclass(frozen=True, slots=True)
class ScriptCall(Generic[R_co]):
    """A script with its keys and arguments, ready to be sent; `read` makes the typed reply of the server's."""

    script: Script
    operands: tuple[Arg, ...]
    read: Callable[[Any], R_co]

    @property
    def command(self) -> tuple[Arg, ...]:
        """The command for a server that knows the script."""
        return ("EVALSHA", self.script.sha, *self.operands)

    @property
    def command_with_text(self) -> tuple[Arg, ...]:
        """The command for a server that does not."""
        return ("EVAL", self.script.text, *self.operands)


class Transition(Generic[P, R]):
    """A script that is called by the names in its header."""

    def __init__(self, declaration: Callable[P, R]) -> None:
        self._declaration = declaration
        self.name = declaration.__name__
        self.__doc__ = declaration.__doc__

    def __call__(self, keys: Sequence[str], /, *args: P.args, **kwargs: P.kwargs) -> ScriptCall[R]:
        """The call with these arguments; `args` is empty, for a transition has only named parameters."""
        bound = self.bound
        return ScriptCall(bound.script, (*bound.keys(keys), *bound.arguments(kwargs)), bound.read)

    @cached_property
    def bound(self) -> _Binding:
        """The script, its encoders and decoders: resolved once, at the first call.

        Raises:
            HeaderMismatch: the header names other arguments, replies or fields. BadHeader: it cannot be read.
        """
        return _bind(self._declaration)


def transition(declaration: Callable[P, R]) -> Transition[P, R]:
    """The transition that a function without a body declares; the script has the function's name."""
    return Transition(declaration)


@dataclass(frozen=True, slots=True)
class _Binding:
    script: Script
    single: tuple[tuple[str, Encoder | None], ...]
    lists: tuple[Parameter, ...]
    names: frozenset[str]
    replies: Mapping[bytes, Decoder]

    def keys(self, keys: Sequence[str]) -> tuple[Arg, ...]:
        """The number of keys, and the keys."""
        named = self.script.header.keys
        if len(keys) != len(named) and not named[0].is_list:
            raise HeaderMismatch(f"{self.script.name} has the keys {_listed(named)}, not {keys!r}")
        return (len(keys), *keys)

    def arguments(self, named: Mapping[str, Any]) -> list[Arg]:
        """The arguments in the order of the header."""
        if named.keys() != self.names:
            raise HeaderMismatch(f"{self.script.name} takes {sorted(self.names)}, not {sorted(named)}")
        argv = [named[name] if encode is None else encode(named[name]) for name, encode in self.single]
        for each in self.lists:
            values = _flat(named[each.name], len(each.group))
            if each is not self.lists[-1]:
                argv.append(len(values) // len(each.group))
            argv += values
        return argv

    def read(self, reply: Any) -> Any:
        """The typed reply."""
        decode = self.replies.get(reply[0])
        if decode is None:
            raise CorruptRecord(f"{self.script.name} returned {reply[0]!r}")
        return decode(reply)


def _bind(declaration: Callable[..., Any]) -> _Binding:
    loaded, hints = script(declaration.__name__), get_type_hints(declaration)
    declared = tuple(inspect.signature(declaration).parameters)
    header = loaded.header
    if declared != tuple(parameter.name for parameter in header.arguments):
        raise HeaderMismatch(f"{loaded.name}.lua takes {_listed(header.arguments)}; declared: {', '.join(declared)}")
    return _Binding(
        script=loaded,
        single=tuple((each.name, _encoder(hints[each.name])) for each in header.arguments if not each.is_list),
        lists=tuple(each for each in header.arguments if each.is_list),
        names=frozenset(declared),
        replies=_replies(loaded, hints["return"]),
    )


# --- arguments --------------------------------------------------------------------------------------------


def _encoder(hint: Any) -> Encoder | None:
    """What makes an argument of a value; None where the value is one already."""
    if hint is bool:
        return int
    if get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):
        return _or_empty
    return None


def _or_empty(value: Any) -> Arg:
    return "" if value is None else value


def _flat(values: Any, size: int) -> list[Arg]:
    """A list's values in a row: of single values, of tuples, or of a mapping's items."""
    if isinstance(values, Mapping):
        return list(chain.from_iterable(values.items()))
    return list(values) if size == 1 else list(chain.from_iterable(values))


# --- replies ----------------------------------------------------------------------------------------------


def _replies(loaded: Script, hint: Any) -> dict[bytes, Decoder]:
    """How to read each reply, by its word."""
    expected, found = loaded.header.replies, dict[str, Decoder]()
    for kind in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            found |= {member.value: _constant(member) for member in kind}
        elif is_dataclass(kind) and isinstance(kind, type):
            word = _WORD.sub("_", kind.__name__).lower()
            names = tuple(each.name for each in fields(kind))
            if word in expected and names != tuple(each.name for each in expected[word]):
                raise HeaderMismatch(f"{loaded.name}.lua: {word!r} has {_listed(expected[word])}; declared: {names}")
            found[word] = _reader(kind, expected.get(word, ()))
        else:
            raise HeaderMismatch(f"{loaded.name}: a reply is a dataclass or a StrEnum, not {kind!r}")
    if found.keys() != expected.keys():
        raise HeaderMismatch(f"{loaded.name}.lua returns {sorted(expected)}; declared: {sorted(found)}")
    return {word.encode(): decode for word, decode in found.items()}


def _constant(member: StrEnum) -> Decoder:
    return lambda _: member


def _reader(kind: type, parameters: Sequence[Parameter]) -> Decoder:
    """Makes a dataclass of a reply: its word first, then its fields; a list has all that follows."""
    hints = get_type_hints(kind)
    decoders = tuple(_decoder(hints[each.name]) for each in parameters if not each.is_list)
    if not parameters:
        empty = kind()
        return lambda _: empty
    if not parameters[-1].is_list:
        return lambda reply: kind(*(d(value) for d, value in zip(decoders, reply[1:], strict=True)))
    last, start = _list_decoder(hints[parameters[-1].name], len(parameters[-1].group)), 1 + len(decoders)
    return lambda reply: kind(
        *(d(value) for d, value in zip(decoders, reply[1:start], strict=True)), last(reply[start:])
    )


def _decoder(hint: Any) -> Decoder:
    """What makes a field of a value in a reply."""
    if get_origin(hint) in (Union, UnionType):
        (inner,) = (each for each in get_args(hint) if each is not NoneType)
        decode = _decoder(inner)
        return lambda value: decode(value) if value not in (b"", None) else None
    if get_origin(hint) is Literal or hint is str:
        return bytes.decode
    if get_origin(hint) is dict:
        return _mapping
    if hint is bool:
        return lambda value: value in (b"1", 1)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return lambda value: hint(value.decode())
    if hint is int:
        return int
    return lambda value: value


def _list_decoder(hint: Any, size: int) -> Decoder:
    """What makes a tuple of the values at the end of a reply: of single ones, or of tuples of `size`."""
    element = get_args(hint)[0]
    if size == 1:
        decode = _decoder(element)
        return lambda values: tuple(decode(value) for value in values)
    parts = tuple(_decoder(part) for part in get_args(element))

    def groups(values: Sequence[Any]) -> tuple[tuple[Any, ...], ...]:
        starts = range(0, len(values), size)
        return tuple(tuple(d(v) for d, v in zip(parts, values[at : at + size], strict=True)) for at in starts)

    return groups


def _mapping(flat: Mapping[bytes, bytes] | Iterable[bytes]) -> dict[str, bytes]:
    """A hash: a map in RESP3, a row of names and values in RESP2."""
    if isinstance(flat, Mapping):
        return {name.decode(): value for name, value in flat.items()}
    pairs = iter(flat)
    return {name.decode(): value for name, value in zip(pairs, pairs, strict=True)}


def _listed(parameters: Sequence[Parameter]) -> str:
    return ", ".join(map(str, parameters)) or "nothing"
