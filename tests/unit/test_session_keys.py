"""Names in keys: whatever people call their sessions and tenants, no two of them share a key."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker_config.names import LONGEST_ID, LONGEST_TENANT, name_problem, pattern
from sessions.errors import InvalidSessionId, InvalidTurnId
from sessions.store.keys import SessionKeys, new_turn_part, split_turn_id, wide_name

PART = "0192f5c4e8d17e3c8e3c5b7f0a9d4e21"
characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from("%/|+:{}~@.\\*?[]é山2F7E")


def names(longest: int) -> st.SearchStrategy[str]:
    return st.text(characters, min_size=1, max_size=longest).filter(lambda name: name_problem(name, longest) is None)


@pytest.mark.parametrize(
    ("session_id", "ref"),
    [
        ("chat-1", "t@x.org:chat-1"),
        ("A:b.c_d@e", "t@x.org:A%3Ab.c_d@e"),
        ("+49/a|b", "t@x.org:%2B49%2Fa%7Cb"),
        ("é{2}", "t@x.org:%C3%A9%7B2%7D"),
    ],
)
def test_keys_stay_what_they_were(session_id: str, ref: str) -> None:
    """Sessions of earlier versions are found again, and the new characters are percent-encoded."""
    assert SessionKeys.of("t@x.org", session_id, 8).ref == ref


@given(one=st.tuples(names(64), names(40)), other=st.tuples(names(64), names(40)))
@example(one=("t", "a:b"), other=("t", "a%3Ab"))
@example(one=("t", "a:b"), other=("t:a", "b"))
@example(one=("t", "a/b"), other=("t", "a%2Fb"))
def test_no_two_names_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    """And keys are ASCII without what Redis, globs or our own separators would read something into."""
    keys, others = SessionKeys.of(*one, 8), SessionKeys.of(*other, 8)
    assert (keys.ref == others.ref) == (one == other)
    assert re.fullmatch(r"[A-Za-z0-9._@%-]+:[A-Za-z0-9._@%-]+", keys.ref)


@given(tenant=names(LONGEST_TENANT), session_id=names(LONGEST_ID), lane=st.sampled_from(["", "knowledge", "webhooks"]))
def test_keys_are_found_again(tenant: str, session_id: str, lane: str) -> None:
    """From a wake-up, and from the id of a turn, in which the session stands as its people write it."""
    keys = SessionKeys.of(tenant, session_id, 8)
    keys = keys.lane(lane) if lane else keys
    assert SessionKeys.from_ref(keys.ref, 8) == keys
    assert keys.tenant == tenant
    found, part = split_turn_id(keys.public_id(PART))
    assert part == PART
    assert SessionKeys.from_id(tenant, found, 8) == keys
    assert found.partition("~")[0] == session_id


@given(name=st.text(characters, min_size=1, max_size=40))
def test_what_belongs_to_a_user_is_found_again(name: str) -> None:
    """A user's or a base's lane, by the id of an operation of it."""
    keys = SessionKeys.wide("t", wide_name("user", name), 8).lane("knowledge")
    assert SessionKeys.from_ref(keys.ref, 8) == keys
    assert SessionKeys.from_id("t", split_turn_id(keys.public_id(PART))[0], 8) == keys


@pytest.mark.parametrize(
    "ref", ["t:%61", "t:a%3ab", "t:a:b", "t:%7Euser", "t:a%7Eknowledge", "t:%FF", "%74:a", "t:", "t"]
)
def test_a_key_has_one_spelling(ref: str) -> None:
    """A second one would be a second mailbox of the same session, or a forbidden lane."""
    with pytest.raises(InvalidSessionId):
        SessionKeys.from_ref(ref, 8)


def test_what_is_no_session_has_no_keys() -> None:
    """As given on the command line: an empty list would say that there is such a session, without turns."""
    with pytest.raises(InvalidSessionId):
        SessionKeys.from_id("t", "a b", 8)


@pytest.mark.parametrize("session_id", ["a~b~c", "~user:x", "a~", "a~Knowledge", "a b", "~user:x y~knowledge"])
def test_a_turn_id_names_a_session_or_a_lane(session_id: str) -> None:
    """Any other form is refused."""
    with pytest.raises(InvalidTurnId):
        split_turn_id(f"{session_id}~{new_turn_part()}")


@given(name=st.text(characters, max_size=6) | st.sampled_from(["..", "a/..", "a/./b", ".../x", "a\n", "x" * 9]))
def test_the_documented_pattern_is_the_rule(name: str) -> None:
    """Generated clients of the gateway read it; Python and JSON Schema read it in the same way."""
    assert (re.fullmatch(pattern(8), name) is not None) == (name_problem(name, 8) is None)
