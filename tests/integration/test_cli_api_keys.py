"""`sessionfleet keys api`: keys are made, listed and revoked, and a key is to be seen once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner, Result

from broker_config.redis_clients import async_store
from broker_config.settings import Settings, load_settings
from sessions.cli import main as cli
from sessions.errors import BadRequest
from sessions.gateway.api_key import digest_of, id_in, new_key
from sessions.store.api_keys import ApiKeyStore
from tests.support.fleet import keys_without_ttl
from tests.support.servers import Server


@pytest.fixture(autouse=True)
def _store(new_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REDIS_URL", new_server.url)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.app, ["keys", "api", *arguments])
    if isinstance(result.exception, BadRequest):
        raise result.exception
    return result


def run_in_thread(*arguments: str) -> Result:
    """For tests that have their own event loop, as commands do."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(run, *arguments).result()


def listed() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run("list", "--json").stdout)
    return found


def test_a_key_goes_to_stdout_alone(new_server: Server) -> None:
    """`KEY=$(sessionfleet keys api create)` works; what it is good for is on stderr, and the store has no key."""
    made = run("create", "--name", "phone")
    key = made.stdout.strip()
    assert made.stdout.count("\n") == 1
    assert id_in(key) in made.stderr
    assert "read, write" in made.stderr
    assert "not shown again" in made.stderr
    assert key not in made.stderr
    with new_server.client() as client:
        stored = b"".join(client.hvals("sf:v1:{fleet}:apikeys")).decode()
    assert digest_of(key) in stored
    assert key.rpartition("_")[2] not in stored
    assert keys_without_ttl(new_server) == []


def test_a_key_is_listed_without_anything_that_opens(new_server: Server) -> None:
    """Neither the key nor its digest; a table for people, JSON for programs."""
    assert "there are no API keys" in run("list").stdout
    rights = ("--right", "read", "--right", "approve")
    limits = ("--rate", "0", "--concurrency", "5", "--expires", "90d")
    made = json.loads(run("create", "--tenant", "acme", "--act-for-users", *rights, *limits, "--json").stdout)
    key = made.pop("key")
    (one,) = listed()
    assert one == made
    expected = {"tenant": "acme", "user": None, "acts_for_users": True, "rights": ["read", "approve"], "rate": 0}
    assert expected.items() <= one.items()
    assert (one["concurrency"], one["expired"], one["last_used"]) == (5, False, None)
    table = run("list").stdout
    assert "any, as it says" in table
    for shown in (table, run("list", "--json").stdout):
        assert key not in shown
        assert digest_of(key) not in shown


def test_a_key_is_revoked_by_its_id() -> None:
    """Once; and passing the key itself is an error that says that it has no place on a command line."""
    key = run("create").stdout.strip()
    with pytest.raises(BadRequest, match="pass the key's id") as refused:
        run("revoke", key)
    assert key not in str(refused.value)
    assert "revoked" in run("revoke", str(id_in(key))).stdout
    assert listed() == []
    again = run("revoke", str(id_in(key)))
    assert again.exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [("--user", "ann", "--act-for-users"), ("--expires", "soon"), ("--expires", "0d"), ("--expires", "999999999w"),
     ("--tenant", "a b"), ("--tenant", ""), ("--user", ""), ("--name", "a\nb"), ("--name", "x" * 101)],
)  # fmt: skip
def test_what_makes_no_key_is_an_error(arguments: tuple[str, ...]) -> None:
    """The command fails and stores nothing."""
    with pytest.raises(BadRequest):
        run("create", *arguments)
    assert listed() == []


async def test_the_last_use_is_listed_and_goes_with_the_key(new_server: Server) -> None:
    """What a gateway writes about a key that was revoked meanwhile leaves nothing behind."""
    kept, revoked = (str(id_in(run_in_thread("create").stdout.strip())) for _ in range(2))
    client = async_store(Settings(redis_url=new_server.url))  # type: ignore[call-arg]
    try:
        keys = ApiKeyStore(client)
        assert await keys.remove(revoked)
        await keys.note_used({kept: 1_700_000_000_000, revoked: 1_700_000_000_000})
        await keys.note_used({revoked: 1})
        assert [(record.id, used) for record, used in await keys.listed()] == [(kept, 1_700_000_000_000)]
        assert await client.hkeys("sf:v1:{fleet}:apikeys:used") == [kept.encode()]
    finally:
        await client.aclose()


def test_no_two_keys_have_one_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """If chance produces an id that exists, another one is chosen, and the first key stays as it was."""
    first = new_key()
    made = iter([first, (first[0], first[1][:-1] + "x"), new_key()])
    monkeypatch.setattr("sessions.cli.api_keys.new_key", lambda: next(made))
    keys = [run("create").stdout.strip(), run("create").stdout.strip()]
    assert keys[0] == first[1]
    assert {one["id"] for one in listed()} == {id_in(key) for key in keys}
    assert len(listed()) == 2


def test_an_expired_key_is_shown_as_one(new_server: Server) -> None:
    """It opens nothing, and stays in the list until it is revoked."""
    run("create", "--expires", "1s", "--user", "ann")
    with new_server.client() as client:
        ((key_id, raw),) = client.hgetall("sf:v1:{fleet}:apikeys").items()
        client.hset("sf:v1:{fleet}:apikeys", key_id, json.dumps({**json.loads(raw), "expires_ms": 1}))
    assert listed()[0]["expired"] is True
    assert "expired 1970" in run("list").stdout
