"""A script is bound by the names in its header: whatever differs is found when it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pytest

from sessions.errors import CorruptRecord
from sessions.store import binding
from sessions.store.binding import HeaderMismatch, Transition, transition
from sessions.store.lua_header import BadHeader, Header
from sessions.store.script_files import Script

HEADER = """#!lua
-- Does something.
-- KEYS
--   S: base of the session
--   P: base of its partition
-- ARGV
--   turn: its id (a UUID), or ''
--   on
--   changes[field, value]: values to set: as JSON,
--      and more prose
--   ids[]: of others
-- Returns
--   done: count, owner, pairs[name, number] (count: how many)
--   nothing (there is no such turn)
--!include clock
"""


@dataclass(frozen=True)
class Done:
    count: int
    owner: str | None
    pairs: tuple[tuple[str, int], ...]


class Quiet(StrEnum):
    NOTHING = "nothing"


@pytest.fixture(autouse=True)
def _loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "script", lambda name: Script(name, "", "sha", Header.parse(HEADER)))


def declared() -> Transition[..., Done | Quiet]:
    @transition
    def do_it(*, turn: str | None, on: bool, changes: dict[str, str], ids: list[str]) -> Done | Quiet: ...  # type: ignore[empty-body]

    do_it._declaration.__globals__.update(Done=Done, Quiet=Quiet)
    return do_it


def test_names_become_places() -> None:
    """In the order of the header; each list but the last comes after the number of its groups."""
    call = declared()(("s", "p"), ids=["x", "y"], changes={"a": "1", "b": "2"}, turn=None, on=True)
    assert call.command == ("EVALSHA", "sha", 2, "s", "p", "", 1, 2, "a", "1", "b", "2", "x", "y")


def test_places_become_names() -> None:
    """A reply is read by its word and its fields, with their types."""
    call = declared()(("s", "p"), ids=[], changes={}, turn="t", on=False)
    assert call.read([b"done", b"3", b"", b"a", 1, b"b", b"2"]) == Done(3, None, (("a", 1), ("b", 2)))
    assert call.read([b"nothing"]) is Quiet.NOTHING
    with pytest.raises(CorruptRecord, match="another"):
        call.read([b"another"])


def test_the_prologue_binds_them_in_lua() -> None:
    """Single values by `unpack`, lists by loops: `unpack` fails for thousands of values."""
    prologue = Header.parse(HEADER).prologue
    assert prologue.startswith(
        "local S, P = unpack(KEYS) local turn, on = unpack(ARGV, 1, 2) local changes, ids = {}, {}"
    )


@pytest.mark.parametrize("wrong", [{"turn": "t"}, {"turn": "t", "on": True, "changes": {}, "ids": [], "more": 1}])
def test_a_call_with_other_names_is_refused(wrong: dict[str, object]) -> None:
    """An argument may be neither missing nor superfluous."""
    with pytest.raises(HeaderMismatch, match="do_it takes"):
        declared()(("s", "p"), **wrong)


def test_a_call_with_other_keys_is_refused() -> None:
    """The number of keys must be that of the header."""
    with pytest.raises(HeaderMismatch, match="S, P"):
        declared()(("s",), turn="t", on=True, changes={}, ids=[])


def test_a_declaration_with_other_arguments_is_refused() -> None:
    """The error is raised when the script is loaded, before anything is sent."""

    @transition
    def do_it(*, turn: str, off: bool) -> Quiet: ...  # type: ignore[empty-body]

    with pytest.raises(HeaderMismatch, match=r"do_it\.lua takes turn, on, "):
        _ = do_it.bound


def test_a_declaration_with_other_replies_is_refused() -> None:
    """It expects a reply that is not declared, or a field of another name."""

    @transition
    def do_it(*, turn: str | None, on: bool, changes: dict[str, str], ids: list[str]) -> Quiet: ...  # type: ignore[empty-body]

    with pytest.raises(HeaderMismatch, match="returns"):
        _ = do_it.bound


@pytest.mark.parametrize(
    "header",
    [
        "#!lua\n-- KEYS\n--   S\n-- Returns\n--   ok\n",
        "#!lua\n-- KEYS\n--   S\n-- ARGV\n--   many[]\n--   one\n-- Returns\n--   ok\n",
        "#!lua\n-- KEYS\n--   S\n-- ARGV\n-- one\n-- Returns\n--   ok\n",
        "#!lua\n-- KEYS\n--   S\n-- ARGV\n--   one\n-- Returns\n--   (prose)\n",
    ],
)
def test_a_header_of_another_form_is_refused(header: str) -> None:
    """A section is missing, a list comes before a single value, a line is out of place, a reply has no word."""
    with pytest.raises(BadHeader):
        Header.parse(header)
