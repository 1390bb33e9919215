"""What callers get wrong, each with its own clear error, and found before anything is sent."""

from __future__ import annotations

import math
from typing import Any

import pytest

from broker_config.settings import Settings, SettingsError, load_settings
from sessions import Agent, Session
from sessions.errors import (
    BadRequest,
    InvalidMessage,
    InvalidSessionId,
    InvalidTool,
    InvalidTurnId,
    MessageTooLarge,
    StoreUnsupported,
)
from sessions.store.deployment import check_server

# There is no server: a test that reached the store would fail.
NOWHERE = Settings(redis_url="redis://127.0.0.1:1/0")  # type: ignore[call-arg]


def session(session_id: Any = "s", **options: Any) -> Session:
    return Session(session_id, settings=NOWHERE, **options)


NO_TEXTS = (5, b"a", ["a"], "")
UNSEEN = ("a\n", "a\x00b", "\x1b[0m", "a b", "a\xa0b", "a\u200bb", "a\u202eb", "a\ufeff", "\ud83d", "a~b", "~a")
FOLDERS = (".", "..", "../x", "a/./b", "a/..")
FOREIGN = (
    *(
        "+4915112345678",
        "auth0|5f7c",
        "C024BE91L/1355517523.000005",
        "-1001234567890",
        "!room:matrix.org",
        "{a}",
        "a%7Eb",
    ),
    *("straße", "Иван", "山田", "مجموعه‌ما", "👩‍🚀", "a//b", "a\\b", "#?&=*[x]"),
)


@pytest.mark.parametrize("bad", [*NO_TEXTS, *UNSEEN, *FOLDERS, "a" * 257], ids=ascii)
def test_invalid_session_ids_are_refused(bad: Any) -> None:
    """Anything but a text of 1 to 256 allowed characters is InvalidSessionId, a ValueError that quotes it."""
    with pytest.raises(InvalidSessionId) as caught:
        session(bad)
    assert isinstance(caught.value, ValueError)
    assert repr(bad)[:100] in str(caught.value)


@pytest.mark.parametrize("bad", [*UNSEEN, *FOLDERS], ids=ascii)
def test_the_error_says_which_characters_are_allowed_and_how_to_write_others(bad: str) -> None:
    """For sessions, tenants, knowledge bases and SESSIONFLEET_TENANT."""
    said = "letters and digits of any alphabet, punctuation and symbols are allowed, but no space, no '~'"
    with pytest.raises(InvalidSessionId, match=f"{said}.*(percent-encode|write '%2E')"):
        session(bad)
    with pytest.raises(BadRequest, match=f"tenant.*{said}"):
        session(tenant=bad)
    with pytest.raises(BadRequest, match=f"knowledge base.*{said}"):
        session(knowledge=bad)
    with pytest.raises(ValueError, match=said):
        Settings(tenant=bad)


def test_the_error_names_the_character() -> None:
    """The character may be anywhere in a long id and is often invisible."""
    with pytest.raises(InvalidSessionId, match=r"'\\u200b' \(U\+200B ZERO WIDTH SPACE\) at position 3 is not allowed"):
        session("ab\u200bc")


@pytest.mark.parametrize("good", ["a", "a" * 256, "user@example.com", "A:b.c-d_e", "0", *FOREIGN], ids=ascii)
def test_the_names_that_people_have_are_taken(good: str) -> None:
    """Phone numbers, Auth0 and Slack ids, negative numbers, other alphabets; also as tenants and bases."""
    assert session(good).session_id == good
    assert session(tenant=good[:64]).keys.tenant == good[:64]
    assert session(knowledge=good[:128]).knowledge.bases == (good[:128],)


@pytest.mark.parametrize(
    "bad", ["", "  \n", None, 5, b"bytes", [], [""], [5], [["hi"]], {"type": "text"}, "\ud800"], ids=ascii
)
def test_a_message_is_a_text_that_is_not_empty(bad: Any) -> None:
    """Anything else is InvalidMessage."""
    with pytest.raises(InvalidMessage, match="surrogate pair" if bad == "\ud800" else "non-empty|part of the message"):
        session().Agent("A").submit(bad)


@pytest.mark.parametrize(
    "options", [{"name": "\ud800"}, {"name": "A", "instructions": "\ud800"}], ids=["name", "prompt"]
)
def test_an_agent_is_described_in_texts_that_can_be_written(options: dict[str, str]) -> None:
    """Half of a surrogate pair is BadRequest, not an error of the serializer."""
    with pytest.raises(BadRequest, match="UTF-8"):
        session().Agent(**options)


def test_a_message_over_the_limit_is_refused() -> None:
    """One byte more than the limit (1 MiB by default, counted in UTF-8) is MessageTooLarge, which names both."""
    with pytest.raises(MessageTooLarge, match=r"1048577 bytes, the limit is 1048576.*MESSAGE_LIMIT_BYTES"):
        session().Agent("A").submit("ä" * (512 * 1024) + "x")


@pytest.mark.parametrize("bad", [0, -1, "soon", math.nan, math.inf, True, [1]], ids=repr)
def test_times_are_positive_numbers(bad: Any) -> None:
    """A deadline or a lifetime that is not a time is BadRequest, which names the argument."""
    with pytest.raises(BadRequest, match=r"timeout .*use a number of seconds"):
        session().Agent("A").submit("hi", timeout=bad)
    with pytest.raises(BadRequest, match=r"ttl .*use a number of seconds"):
        session(ttl=bad)


@pytest.mark.parametrize("bad", ["", "x" * 257, 5, b"u", "\ud800"], ids=ascii)
def test_users_and_idempotency_keys_are_short_texts(bad: Any) -> None:
    """Anything else is BadRequest, which names the argument."""
    with pytest.raises(BadRequest, match="user_id"):
        session(user_id=bad)
    with pytest.raises(BadRequest, match="idempotency_key"):
        session().Agent("A").submit("hi", idempotency_key=bad)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": ""}, "agent name ''"),
        ({"name": 5}, "agent name 5"),
        ({"instructions": 5}, "instructions of 'A' must be a string"),
        ({"model": object}, "model=<class 'object'>: use a name"),
        ({"model": []}, r"model=\[\]: use a name"),
        ({"model": ["a", "a"]}, "different names"),
        ({"output_type": 5}, "output_type 5"),
    ],
    ids=str,
)
def test_an_agents_arguments_have_types(options: dict[str, Any], said: str) -> None:
    """A wrong type is BadRequest at once, not a failure on some worker."""
    with pytest.raises(BadRequest, match=said):
        session().Agent(**{"name": "A", **options})


@pytest.mark.parametrize("bad", ["a b", "", 5, "a/b", None, "retrieval"], ids=repr)
def test_queues_have_names(bad: Any) -> None:
    """An invalid name of a queue is BadRequest."""
    with pytest.raises(BadRequest, match="queue"):
        session(queue=bad)


def test_tools_are_marked_functions_of_a_module() -> None:
    """A function without @tool, a lambda, a class instance and a bare text are InvalidTool."""
    for bad in ([lambda: 1], [test_queues_have_names], [5], "charge", ["no such name!"], ["a", "a"]):
        with pytest.raises(InvalidTool):
            session().Agent("A", tools=bad)


@pytest.mark.parametrize("bad", ["x", "", None, "s~xyz", "../x~" + "0" * 32, "s~" + "0" * 31], ids=repr)
def test_turn_ids_have_a_form(bad: Any) -> None:
    """Anything that is not a turn id is InvalidTurnId, before the store is asked."""
    with pytest.raises(InvalidTurnId):
        session().turn(bad)


def test_a_turn_of_another_session_is_refused() -> None:
    """A turn id that names another session does not reach into it."""
    with pytest.raises(InvalidTurnId, match="belongs to session 'other'"):
        session().turn("other~" + "0" * 32)


@pytest.mark.parametrize("bad", [5, "chat-1", {"sesion_id": "x"}, ["x"]], ids=repr)
def test_memory_names_a_session(bad: Any) -> None:
    """`memory=` is a mapping with session_id, or a bool; a misspelt key is not ignored."""
    with pytest.raises(BadRequest, match="session_id"):
        Agent("A", memory=bad)


def test_an_unknown_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is named, with the one that was probably meant."""
    monkeypatch.setenv("SESSIONFLEET_LEESE", "5")
    load_settings.cache_clear()
    with pytest.raises(SettingsError, match=r"'SESSIONFLEET_LEESE'.*did you mean SESSIONFLEET_LEASE"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("LEASE", "soon"), ("LEASE", "0"), ("PARTITIONS", "0"), ("TENANT", "a b"), ("LOG_LEVEL", "loud")],
)
def test_a_setting_with_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The error says which variable it is, and its value."""
    monkeypatch.setenv(f"SESSIONFLEET_{name}", value)
    load_settings.cache_clear()
    with pytest.raises(SettingsError, match=f"SESSIONFLEET_{name}.*{value!r}"):
        load_settings()


@pytest.mark.parametrize("version", ["6.2.14", "5.0.7", "2.8"])
def test_a_server_that_is_too_old_is_refused(version: str) -> None:
    """Redis before 7.0 has no functions that we need: StoreUnsupported says which version it is."""
    with pytest.raises(StoreUnsupported, match=rf"{version}.*7\.0"):
        check_server({"redis_version": version}, {"maxmemory_policy": "noeviction"})


@pytest.mark.parametrize("version", ["7.0.0", "7.4.2", "8.0.1", "10.1"])
def test_newer_servers_are_taken(version: str) -> None:
    """7.0 and every later version is accepted."""
    check_server({"redis_version": version}, {"maxmemory_policy": "noeviction"})


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_server_that_evicts_is_refused(policy: str) -> None:
    """StoreUnsupported shows the command that changes the policy."""
    with pytest.raises(StoreUnsupported, match=f"{policy}.*CONFIG SET maxmemory-policy noeviction"):
        check_server({"redis_version": "8.0.0"}, {"maxmemory_policy": policy})
