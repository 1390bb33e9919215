"""Sealing by itself: what opens what, and what the errors say."""

from __future__ import annotations

import base64
import pickle
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_config.encryption_keys import new_key, parse_keys
from broker_config.settings import Settings, SettingsError, load_settings
from sessions.errors import BackendError, SealError
from sessions.fleet.home import differences, fingerprint, settings_environment
from sessions.store.sealing import KeyRing

A, B = bytes(range(32)), bytes(range(1, 33))
RING = KeyRing({"a": A})
SECRET = base64.b64encode(A).decode()
KEYS = f"a:{SECRET}"


@given(st.text(), st.text(), st.binary(max_size=2000))
def test_what_is_sealed_opens_in_its_place(key: str, field: str, value: bytes) -> None:
    """Whatever the value and the names of its place are; and it cannot be read in between."""
    key = key.encode("utf-8", "replace").decode()
    sealed = RING.seal(key, field, value)
    assert RING.open(key, field, sealed) == value
    assert len(value) < 4 or value not in sealed


def test_equal_values_do_not_look_equal() -> None:
    """Each is encrypted with its own nonce."""
    assert len({RING.seal("k", "f", b"tea") for _ in range(1000)}) == 1000


@pytest.mark.parametrize(("key", "field"), [("other", "f"), ("k", "other"), ("kf", ""), ("", "kf"), ("k:", "f")])
def test_a_value_that_was_moved_does_not_open(key: str, field: str) -> None:
    """Neither in another key nor in another field, nor where the two read the same when written one after the other."""
    with pytest.raises(SealError, match="'a'"):
        RING.open(key, field, RING.seal("k", "f", b"tea"))


def test_no_byte_can_be_changed() -> None:
    """Version, key's id, nonce, ciphertext and tag: each byte counts. The mark is what tells sealed from unsealed."""
    sealed = RING.seal("k", "f", b"green tea")
    rng = random.Random(1)
    for place in range(3, len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= rng.randrange(1, 256)
        with pytest.raises(SealError):
            RING.open("k", "f", bytes(changed))


def test_a_value_that_was_cut_short_does_not_open() -> None:
    """It is refused wherever it was cut."""
    sealed = RING.seal("k", "f", b"green tea")
    for length in range(3, len(sealed)):
        with pytest.raises(SealError):
            RING.open("k", "f", sealed[:length])


def test_a_missing_key_is_named_with_what_to_do() -> None:
    """The message has the id, the setting, and the ids that are there; never a key."""
    sealed = RING.seal("k", "f", b"tea")
    for keyring, has in ((KeyRing({"b": B}), "it has b"), (KeyRing({}), "it is not set")):
        with pytest.raises(SealError, match=f"'a'.*SESSIONFLEET_ENCRYPTION_KEYS.*{has}"):
            keyring.open("k", "f", sealed)


def test_a_wrong_key_under_the_right_id_is_told() -> None:
    """The error is one of ours, and no garbage is returned."""
    with pytest.raises(BackendError, match=r"'a'.*SESSIONFLEET_ENCRYPTION_KEYS"):
        KeyRing({"a": B}).open("k", "f", RING.seal("k", "f", b"tea"))


def test_a_newer_form_is_told_from_damage() -> None:
    """The value was written by another version of Sessionfleet."""
    sealed = bytearray(RING.seal("k", "f", b"tea"))
    sealed[3] = 2
    with pytest.raises(SealError, match="upgrade"):
        RING.open("k", "f", bytes(sealed))


def test_keys_rotate() -> None:
    """The first key seals, all open; a keyring without the old one opens what the new one sealed, and nothing else."""
    old, both, new = RING, KeyRing({"b": B, "a": A}), KeyRing({"b": B})
    before, after = old.seal("k", "f", b"1"), both.seal("k", "f", b"2")
    assert (both.open("k", "f", before), both.open("k", "f", after)) == (b"1", b"2")
    assert new.open("k", "f", after) == b"2"
    for keyring, sealed in ((new, before), (old, after)):
        with pytest.raises(SealError):
            keyring.open("k", "f", sealed)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"v":1}', "ÿsf".encode(), b"\x00:\x01", b"PK\x03\x04", b"\xff\xd8"])
def test_what_was_stored_before_there_were_keys_is_read_as_it_is(value: bytes) -> None:
    """Without keys, new values are stored unchanged, too."""
    assert RING.open("k", "f", value) == value
    assert KeyRing({}).seal("k", "f", value) == value


def test_digests_take_a_key_to_make() -> None:
    """Equal for equal contents; the newest key's comes first, and older keys' are known."""
    assert KeyRing({}).digests(b"") == ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",)
    assert RING.digest(b"tea") == RING.digest(b"tea") != RING.digest(b"Tea")
    assert KeyRing({"b": B, "a": A}).digests(b"tea") == (KeyRing({"b": B}).digest(b"tea"), RING.digest(b"tea"))
    assert KeyRing({}).digest(b"tea") not in RING.digests(b"tea")


# --- the setting ------------------------------------------------------------------------------------------


def test_a_new_key_is_what_the_setting_takes() -> None:
    """Each generated key differs from the others."""
    one, two = new_key("2026-11"), new_key("2026-11b")
    assert list(parse_keys(f"{one}, {two}")) == ["2026-11", "2026-11b"]
    assert one.partition(":")[2] != two.partition(":")[2]
    with pytest.raises(ValueError, match="letters"):
        new_key("a:b")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "entry 1 of 1 has no id"),
        (SECRET, "has no id"),
        (f"{KEYS},", "entry 2 of 2 has no id"),
        (f"{SECRET}:a", "has no id"),
        (f"a:{SECRET[:-4]}", "not a key of 32 bytes"),
        (f"a:{SECRET}AAAA", "not a key of 32 bytes"),
        (f"a:*{SECRET[1:]}", "not a key of 32 bytes"),
        (f"{KEYS},a:{base64.b64encode(B).decode()}", "entry 2 of 2 has the id or the key of an earlier one"),
        (f"{KEYS},b:{SECRET}", "entry 2 of 2 has the id or the key of an earlier one"),
    ],
)
def test_a_setting_that_cannot_be_used_says_what_is_wrong(
    given: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says which entry is wrong and what form it needs, and has no part of a key."""
    monkeypatch.setenv("SESSIONFLEET_ENCRYPTION_KEYS", given)
    load_settings.cache_clear()
    with pytest.raises(SettingsError, match=f"SESSIONFLEET_ENCRYPTION_KEYS: .*{says}") as caught:
        load_settings()
    with pytest.raises(ValueError, match=says) as raised:
        Settings(encryption_keys=given)  # type: ignore[arg-type]
    for error in (caught.value, raised.value):
        assert SECRET[4:20] not in str(error) + repr(error)


def test_keys_are_not_shown() -> None:
    """Not in a repr, nor in JSON, nor in the fingerprint that a fleet writes down; that tells one key from another."""
    settings = Settings(encryption_keys=KEYS)  # type: ignore[arg-type]
    keyring = KeyRing.of(settings)
    assert keyring.ids == ("a",)
    other = fingerprint(Settings(encryption_keys=f"a:{base64.b64encode(B).decode()}"))  # type: ignore[arg-type]
    shown = f"{settings!r} {settings} {settings.model_dump_json()} {keyring!r} {keyring} {vars(settings)} {other}"
    shown += str(fingerprint(settings))
    assert SECRET not in shown
    assert repr(A) not in shown
    assert differences(fingerprint(settings), other) == "encryption keys"


def test_a_child_process_gets_the_keys() -> None:
    """The workers of a fleet can open what its scripts sealed."""
    environment = settings_environment(Settings(encryption_keys=KEYS))  # type: ignore[arg-type]
    assert environment["SESSIONFLEET_ENCRYPTION_KEYS"] == KEYS


def test_with_keys_no_texts_go_to_the_index() -> None:
    """By default; to ask for it all the same is refused. Without keys both are possible."""
    assert not Settings().texts_in_store
    assert Settings(knowledge_texts="store").texts_in_store
    assert Settings(encryption_keys=KEYS).texts_in_store  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unencrypted"):
        Settings(encryption_keys=KEYS, knowledge_texts="index")  # type: ignore[arg-type]


def test_nothing_heavy_is_imported_for_it() -> None:
    """A client without keys does not load the encryption library."""
    code = (
        "import sys, sessions.client.connection; from sessions.store.sealing import KeyRing;"
        "KeyRing({}).seal('k', '', b'');"
        "sys.exit(any(name.startswith('cryptography.hazmat') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_errors_travel_between_processes() -> None:
    """They can be pickled, like all errors of the tree."""
    assert str(pickle.loads(pickle.dumps(SealError("x")))) == "x"
