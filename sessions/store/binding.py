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
from operator import itemgetter
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
    """A script with its keys and arguments, ready to be sent.

    Attributes:
        command: for a server that knows the script.
        read: turns the server's reply into the typed one.
    """

    script: Script
    command: tuple[Arg, ...]
    read: Callable[[Any], R_co]

    @property
    def command_with_text(self) -> tuple[Arg, ...]:
        """The command for a server that does not know the script."""
        return ("EVAL", self.script.text, *self.command[2:])


class Transition(Generic[P, R]):
    """A script that is called by the names in its header."""

    def __init__(self, declaration: Callable[P, R]) -> None:
        self._declaration = declaration
        self.name = declaration.__name__
        self.__doc__ = declaration.__doc__

    def __call__(self, keys: Sequence[str], /, *args: P.args, **kwargs: P.kwargs) -> ScriptCall[R]:
        """The call with these arguments; `args` is empty, for a transition has only named parameters."""
        return self.bound.call(keys, kwargs)

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
    pick: Callable[[Mapping[str, Any]], Iterable[Any]]
    encoders: tuple[tuple[int, Encoder], ...]
    lists: tuple[Parameter, ...]
    names: frozenset[str]
    replies: Mapping[bytes, Decoder]

    def call(self, keys: Sequence[str], named: Mapping[str, Any]) -> ScriptCall[Any]:
        """The call with these keys and arguments, in the order of the header."""
        if len(keys) != len(self.script.header.keys) and not self.script.header.keys[0].is_list:
            raise HeaderMismatch(f"{self.script.name} has the keys {_listed(self.script.header.keys)}, not {keys!r}")
        if named.keys() != self.names:
            raise HeaderMismatch(f"{self.script.name} takes {sorted(self.names)}, not {sorted(named)}")
        argv = list(self.pick(named))
        for at, encode in self.encoders:
            argv[at] = encode(argv[at])
        for each in self.lists:
            values = _flat(named[each.name], len(each.group))
            if each is not self.lists[-1]:
                argv.append(len(values) // len(each.group))
            argv += values
        return ScriptCall(self.script, ("EVALSHA", self.script.sha, len(keys), *keys, *argv), self.read)

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
    single = [each.name for each in header.arguments if not each.is_list]
    return _Binding(
        script=loaded,
        pick=_picker(single),
        encoders=tuple((at, encode) for at, name in enumerate(single) if (encode := _encoder(hints[name]))),
        lists=tuple(each for each in header.arguments if each.is_list),
        names=frozenset(declared),
        replies=_replies(loaded, hints["return"]),
    )


# --- arguments --------------------------------------------------------------------------------------------


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Iterable[Any]]:
    """Takes the values of these names from a mapping; `itemgetter` does it in C, but returns no tuple for one name."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda named: [named[name] for name in names]


def _encoder(hint: Any) -> Encoder | None:
    """Turns a value into an argument; None if it is sent as it is."""
    if hint is bool:
        return int
    if get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):
        return _or_empty
    return None


def _or_empty(value: Any) -> Arg:
    return "" if value is None else value


def _flat(values: Any, size: int) -> list[Arg]:
    """The arguments of a list, one after the other: from single values, tuples, or a mapping."""
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
    """Turns a reply into a dataclass: the word comes first, then the fields; a list has everything that follows."""
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
    """Turns a value in a reply into a field."""
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
    """Turns the values at the end of a reply into a tuple: of single values, or of tuples of `size`."""
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
