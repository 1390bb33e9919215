"""Each Lua script says in its header what it takes and returns; this holds the header against the body."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

import pytest

from sessions.store.scripts import script, script_names

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

    def part(self, start: str, *ends: str) -> str:
        """The header's text behind `start`, up to one of `ends`."""
        found = re.search(
            rf"\b{start}\b(.*?)(?:\b(?:{'|'.join(ends)})\b|$)" if ends else rf"\b{start}\b(.*)$", self.header
        )
        return found[1] if found else ""


def numbered(text: str) -> tuple[set[int], int | None]:
    """The numbers that begin an item (`1 turn id · 2 queue`), and from which on there are more (`4... pairs`)."""
    found = re.findall(r"(?<=[·)a-z0-9'\"])\s+(\d+)(\.\.\.)?(?= )", "· " + text)
    numbers = {int(n) for n, _ in found}
    more = [int(n) for n, dots in found if dots]
    wanted = set(range(1, max(numbers) + 1)) if numbers else set()
    return numbers & wanted, more[0] if more else None


@pytest.mark.parametrize("name", script_names())
def test_the_first_line_is_a_shebang(name: str) -> None:
    """`#!lua` on line 1 lets the server refuse undeclared behaviour; what frees memory may run at maxmemory (R10)."""
    first = Source.of(name).first
    assert re.fullmatch(r"#!lua( flags=(allow-oom|no-writes))?", first)
    assert name not in FREEING or first.endswith("allow-oom")
    assert name != "accept_turn" or first == "#!lua"


@pytest.mark.parametrize("name", script_names())
def test_the_header_says_what_it_is_for(name: str) -> None:
    """Purpose first, then KEYS, ARGV and what it returns, in that order."""
    header = Source.of(name).header
    places = [header.find(word) for word in ("KEYS", "ARGV", "Returns")]
    assert places[0] > 20
    assert places == sorted(places)


@pytest.mark.parametrize("name", script_names())
def test_the_keys_it_takes_are_named(name: str) -> None:
    """Every KEYS[n] of the body is in the header, and the other way round."""
    source = Source.of(name)
    said = {int(n) for n in re.findall(r"KEYS (\d+)", source.header)}
    used = {int(n) for n in re.findall(r"KEYS\[(\d+)\]", source.body)}
    if re.search(r"\(KEYS\)", source.body):
        used.add(1)
    assert used == said


@pytest.mark.parametrize("name", script_names())
def test_the_arguments_it_takes_are_named(name: str) -> None:
    """Every ARGV[n] of the body is in the header, and the other way round."""
    source = Source.of(name)
    said, more = numbered(source.part("ARGV", "Returns"))
    used = {int(n) for n in re.findall(r"ARGV\[(\d+)\]", source.body)}
    loops = [int(n) for n in re.findall(r"for \w+ = (\d+), ", source.body) if int(n) > 1]
    assert used | set(loops) == said
    assert set(loops) == ({more} if more else set())


@pytest.mark.parametrize("name", script_names())
def test_the_words_it_returns_are_named(name: str) -> None:
    """The first word of each reply is in the header, and each word of the header's list is one the script can say."""
    source = Source.of(name)
    returns = source.part("Returns")
    text = script(name).text if "start_head(" in source.body else source.body
    # A reply is made where it is returned, or (commit) where the word for it is chosen.
    replies = re.findall(r"return \{ (?:first\[2\] == ARGV\[3\] and )?('\w+'(?: or '\w+')?)", text)
    words = {word for reply in replies for word in re.findall(r"\w+", reply) if word != "or"}
    if not words:
        assert re.search(r"\bnumbers\b|\bnow\b|\bsessions\b|values?\b", returns), "a list, and the header says of what"
        return
    if "start_head(" in source.body and name == "commit_turn":
        words -= {"empty", "waiting", "later", "last"}  # become `released`
    listed = {re.match(r"\W*(\w+)", option)[1] for option in returns.split("|") if re.match(r"\W*(\w+)", option)}  # type: ignore[index]
    listed = {word for word in listed if not word.isdigit()}
    assert words <= set(re.findall(r"\w+", returns))
    assert listed <= words | set(re.findall(r"'(\w+)'", script(name).text))


@pytest.mark.parametrize("name", script_names())
def test_time_comes_from_the_store(name: str) -> None:
    """No script takes the time from its caller: all clocks but the store's may be wrong."""
    source = Source.of(name)
    assert "os.time" not in source.body
    assert not re.search(r"\d+ now\b", source.part("ARGV", "Returns"))


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
