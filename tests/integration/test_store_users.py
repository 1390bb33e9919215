"""Users of Redis with least rights: those of deploy/users.acl suffice, and what others lack is named."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.cli.checks import examine
from sessions.cli.verdicts import Verdict
from sessions.errors import StoreUnavailable, StoreUnsupported
from sessions.store.deployment import check_deployment
from sessions.store.rights import COMMANDS, USEFUL
from sessions.store.script_files import script, script_names
from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet
from tests.support.servers import Server, running

LEAST = ROOT / "deploy" / "users.acl"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the users of deploy/users.acl."""
    folder = tmp_path_factory.mktemp("guarded")
    with running(Server(folder, options=("--aclfile", str(LEAST)), user="root", password="CHANGE-ME")) as server:
        yield server


def url_of(server: Server, user: str, password: str = "CHANGE-ME") -> str:
    return f"redis://{user}:{password}@127.0.0.1:{server.port}/0"


def test_least_rights_suffice(guarded: Server, tmp_path: Path) -> None:
    """A turn with a tool, its stream, state, memory, cancel and the doctor: nothing is refused, on either side."""
    fleet = Fleet(tmp_path / "fleet", guarded)
    fleet.settings = Settings(redis_url=url_of(guarded, "sf_client"))
    fleet.start("w1", REDIS_URL=url_of(guarded, "sf_worker"))
    try:
        fleet.ready()
        session = fleet.session()
        agent = session.Agent("A", tools=["charge"])
        assert "".join(event.text for event in agent.stream('CALL charge({"amount": 1})')) == "ok: charged 1"
        session.set_state("a", 1)
        session.add_memory("likes tea")
        assert [found["text"] for found in session.search_memory("tea")] == ["likes tea"]
        assert "search_answered" in fleet.workers[0].log, "it went the direct way, over channels"
        session.fork("copy").delete()
        doctor = [sys.executable, "-m", "sessions.cli.main", "doctor"]
        environment = {**os.environ, "REDIS_URL": url_of(guarded, "sf_client"), "SESSIONFLEET_AUTOSTART": "0"}
        told = preloaded.run(doctor, env=environment, timeout=60)
        assert "✗" not in told.stdout, told.stdout
        fleet.workers[0].terminate()
        assert not re.findall(r".*(?:NOPERM|permission|Traceback).*", fleet.workers[0].log)
        with guarded.client() as root:
            refused = {e["object"] for e in root.acl_log() if e["username"] != "poor" and e["reason"] != "auth"}
        assert refused <= {"client|setinfo"}, "redis-py gives its version where it may"
    finally:
        fleet.close()


@pytest.mark.parametrize("lacks", [("info",), ("hset",), ("info", "rename", "spublish")])
async def test_the_rights_that_a_user_lacks_are_named(guarded: Server, lacks: tuple[str, ...]) -> None:
    """Connecting fails with all missing rights, and with the command that grants them."""
    with guarded.client() as root:
        rules = ["on", ">x", "~sf:*", "&sf:*", "+@all", *(f"-{name}" for name in lacks)]
        root.execute_command("ACL SETUSER", "poor", "reset", *rules)
    settings = Settings(redis_url=url_of(guarded, "poor", "x"))
    client = async_store(settings)
    with pytest.raises(StoreUnsupported) as caught:
        await check_deployment(client, settings)
    await client.aclose()
    told = {check.name: check for check in await examine(settings)}["server"]
    assert (told.verdict, told.says, told.advice) == (Verdict.BROKEN, "cannot be used", str(caught.value))
    assert f"may not run {', '.join(name.upper() for name in lacks)} on" in str(caught.value)
    assert " ".join(f"+{name}" for name in lacks) in str(caught.value)


async def test_a_user_without_our_keys_is_told_so(guarded: Server) -> None:
    """A user that has the commands but not our keys is refused with the reason."""
    with guarded.client() as root:
        root.execute_command("ACL SETUSER", "poor", "reset", "on", ">x", "~shop:*", "&*", "+@all")
    settings = Settings(redis_url=url_of(guarded, "poor", "x"))
    client = async_store(settings)
    with pytest.raises(StoreUnsupported, match=r"~sf:\*"):
        await check_deployment(client, settings)
    await client.aclose()


def test_a_wrong_password_is_told_without_it(guarded: Server) -> None:
    """A password that was not percent-encoded may have become another one."""
    settings = Settings(redis_url=url_of(guarded, "sf_client", "geh3im%41"))

    async def connect() -> None:
        client = async_store(settings)
        try:
            await check_deployment(client, settings)
        finally:
            await client.aclose()

    with pytest.raises(StoreUnavailable, match="percent-encoded") as caught:
        asyncio.run(connect())
    assert "geh3im" not in str(caught.value)


def test_every_command_of_the_scripts_is_tried_at_connect() -> None:
    """Without this check, a script that lacks a right would fail half-way."""
    used = {name.lower() for each in script_names() for name in re.findall(r"call\('(\w+)'", script(each).text)}
    assert used <= {*COMMANDS, *(name.partition("|")[0] for name in USEFUL)}


@pytest.mark.parametrize("user", ["sf_client", "sf_worker"])
def test_the_documented_users_have_every_command(user: str) -> None:
    """What is tried at connect is granted in deploy/users.acl."""
    (rules,) = [line.split() for line in LEAST.read_text().splitlines() if line.startswith(f"user {user} ")]
    assert {f"+{name}" for name in (*COMMANDS, *USEFUL)} <= set(rules)
