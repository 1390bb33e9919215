"""Each Lua script says in its header what it takes and returns; these tests compare header and body."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass
from importlib import resources

import pytest

from sessions.store import transitions
from sessions.store.binding import Transition
from sessions.store.script_files import script, script_names

LUA = resources.files("sessions.store") / "lua"
FREEING = {"renew_lease", "release_turn", "commit_turn", "cancel_turn", "delete_session", "remove_memory"}


@dataclass(frozen=True)
class Source:
    first: str
    header: str
    body: str

    @classmethod
    def of(cls, name: str) -> Source:
        first, *lines = (LUA / f"{name}.lua").read_text("utf-8").splitlines()
        end = next(i for i, line in enumerate(lines) if not line.startswith("-- "))
        header = " ".join(line.removeprefix("--").strip() for line in lines[:end])
        return cls(first, header, "\n".join(lines[end:]))

    @property
    def code(self) -> str:
        """The body without comments and texts."""
        return re.sub(r"'[^']*'", "''", re.sub(r"--(?!!).*", "", self.body))


@pytest.mark.parametrize("name", script_names())
def test_the_first_line_is_a_shebang(name: str) -> None:
    """`#!lua` on line 1 lets the server refuse undeclared behaviour; what frees memory may run at maxmemory (R10)."""
    first = Source.of(name).first
    assert re.fullmatch(r"#!lua( flags=(allow-oom|no-writes))?", first.removesuffix(",allow-cross-slot-keys"))
    assert name in ("read_index", "read_usage") or "cross-slot" not in first
    assert name not in FREEING or first.endswith("allow-oom")
    assert name != "accept_turn" or first == "#!lua"


@pytest.mark.parametrize("name", script_names())
def test_the_header_says_what_it_is_for(name: str) -> None:
    """Purpose first, then KEYS, ARGV and what it returns, in that order."""
    header = Source.of(name).header
    places = [header.find(word) for word in ("KEYS", "ARGV", "Returns")]
    assert places[0] > 20
    assert places == sorted(places)


def _words_included(source: Source) -> set[str]:
    included = re.findall(r"^--!include (\w+)$", source.body, re.M)
    return {word for lib in included for word in re.findall(r"\w+", (LUA / "lib" / f"{lib}.lua").read_text("utf-8"))}


@pytest.mark.parametrize("name", script_names())
def test_keys_and_arguments_are_used_by_their_names(name: str) -> None:
    """The loader makes locals of the header's names, and the body uses each of them, and no number of KEYS or ARGV."""
    source, header = Source.of(name), script(name).header
    assert not re.search(r"\b(KEYS|ARGV)\b", source.code)
    used = set(re.findall(r"\w+", source.code))
    for parameter in (*header.keys, *header.arguments):
        # The included functions use the bases too.
        assert parameter.name in used or (parameter in header.keys and parameter.name in _words_included(source))


@pytest.mark.parametrize("name", script_names())
def test_no_included_function_has_the_name_of_an_argument(name: str) -> None:
    """Such a function would hide the argument from the script's body."""
    code = "\n".join(script(name).text.splitlines()[2:])  # without the prologue
    declared = re.findall(r"^local (?:function )?([\w, ]+)", code, re.MULTILINE)
    names = {each.strip() for names in declared for each in names.split(",")}
    assert not names & {parameter.name for parameter in script(name).header.arguments}


@pytest.mark.parametrize("name", script_names())
def test_the_words_it_returns_are_named(name: str) -> None:
    """The first word of each reply is in the header, and each word of the header is one the script can say."""
    source, header = Source.of(name), script(name).header
    text = script(name).text if "start_head(" in source.body else source.body
    # A reply is made where it is returned, or (a list) where it begins.
    replies = re.findall(
        r"(?:return|reply =|mine = now_ms\(\),|found\[2\] =|reply\[1\] =)\s*\{?\s*"
        r"(?:first\[2\] == digest and )?('\w+'(?: or '\w+')?)",
        text,
    )
    words = {word for reply in replies for word in re.findall(r"\w+", reply) if word != "or"}
    if name == "commit_turn":
        words -= {"run", "empty", "waiting", "later", "last", "effects"}  # become its own words
    if "start_head(" in source.body:
        words -= {"cancelled", "dead_lettered", "unanswered", "deadline"}  # why a turn closes
    words -= {"mismatch", "type", "range"}  # the second word of `refused`
    if name == "rescue_partition":
        words = {"looked"} & set(re.findall(r"\w+", source.body))
    assert words == header.replies.keys()


TRANSITIONS = [
    value
    for module in pkgutil.iter_modules(transitions.__path__, f"{transitions.__name__}.")
    for value in vars(importlib.import_module(module.name)).values()
    if isinstance(value, Transition)
]


@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda each: each.name)
def test_its_python_signature_has_the_names_of_the_header(transition: Transition[..., object]) -> None:
    """Arguments, replies and their fields: what differs is refused when the script is loaded."""
    assert transition.bound.script.name == transition.name


def test_every_script_has_a_python_signature() -> None:
    """Scripts are sent in no other way."""
    assert {each.name for each in TRANSITIONS} == set(script_names())


@pytest.mark.parametrize("name", script_names())
def test_time_comes_from_the_store(name: str) -> None:
    """No script takes the time from its caller: all clocks but the store's may be wrong."""
    source = Source.of(name)
    assert "os.time" not in source.body
    assert not {"now", "now_ms"} & {parameter.name for parameter in script(name).header.arguments}


@pytest.mark.parametrize("name", script_names())
def test_only_commands_of_redis_7_0_are_used(name: str) -> None:
    """Nothing newer than Redis 7.0 (and Valkey, which began with 7.2's commands)."""
    newer = {
        "HEXPIRE",
        "HPEXPIRE",
        "HGETEX",
        "HSETEX",
        "HGETDEL",
        "HPERSIST",
        "CLIENT NO-TOUCH",
        "XACKDEL",
        "XDELEX",
        "MSETEX",
        "DELIFEQ",
    }
    used = {command.upper() for command in re.findall(r"redis\.p?call\('(\w+)'", script(name).text)}
    assert not used & newer
