"""Lists of sessions and deletion of many, over HTTP, in remote sessions, and on the command line."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessions import AgentTeam, Session, Task
from sessions.errors import BadRequest, ListsIncomplete, NotFound, SessionOwnerError
from sessions.store.keys import INDEXED
from sessions.store.partition_batches import PartitionBatches
from tests.integration.test_cli_on_a_fleet import CLI, environment
from tests.support import preloaded
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, made_key
from tests.support.http import good, problem
from tests.support.servers import Server, three_primaries


def new_name() -> str:
    return uuid.uuid4().hex[:12]


@pytest.fixture(scope="module")
def http(gateway_process: GatewayProcess, fleet: Fleet) -> Iterator[httpx.Client]:
    with gateway_process.client() as client:
        yield client


def cli(fleet: Fleet, *command: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(
        [*CLI, "sessions", *command], env=environment(fleet.server.url), timeout=60,
    )  # fmt: skip


def three(fleet: Fleet, user: str) -> list[str]:
    names = [f"{user}-{number}" for number in range(3)]
    for number, name in enumerate(names):
        fleet.session(name, user_id=user).create(title=f"number {number}", metadata={"n": number, "even": number != 1})
    return names


def test_lists_and_changes_over_http(http: httpx.Client, fleet: Fleet) -> None:
    """Pages of the caller's sessions; a change of title and metadata."""
    ann, headers = new_name(), {"X-User-ID": ""}
    headers["X-User-ID"] = ann
    names = three(fleet, ann)
    page = good(http.get("/v1/sessions", params={"limit": 2}, headers=headers))
    assert [each["session_id"] for each in page["sessions"]] == [names[2], names[1]]
    rest = good(http.get("/v1/sessions", params={"limit": 2, "cursor": page["cursor"]}, headers=headers))
    assert [each["session_id"] for each in rest["sessions"]] == names[:1]
    assert (rest["cursor"], rest["complete"]) == (None, True)
    even = good(http.get("/v1/sessions", params={"metadata": '{"even": true}', "order": "created"}, headers=headers))
    assert [each["metadata"]["n"] for each in even["sessions"]] == [2, 0]
    since = rest["sessions"][0]["last_used_at"]
    assert good(http.get("/v1/sessions", params={"unused_since": since}, headers=headers))["sessions"] == []
    assert len(good(http.get("/v1/sessions", params={"active_since": since}, headers=headers))["sessions"]) == 3
    body = {"title": "Rome", "metadata": {"n": None, "x": 1.5}}
    changed = good(http.patch(f"/v1/sessions/{names[0]}", json=body, headers=headers))
    assert (changed["title"], changed["metadata"], changed["agents"]) == ("Rome", {"even": True, "x": 1.5}, [])
    assert good(http.get(f"/v1/sessions/{names[0]}", headers=headers)) == changed
    made = http.post("/v1/sessions", json={"title": "New", "metadata": {"a": True}}, headers=headers)
    assert (good(made, 201)["title"], made.json()["metadata"]) == ("New", {"a": True})
    for wrong in ({"metadata": "x"}, {"metadata": "[]"}, {"cursor": "x"}, {"order": "x"}, {"limit": 0},
                  {"active_since": "2026-01-01T00:00:00"}):  # fmt: skip
        problem(http.get("/v1/sessions", params=wrong, headers=headers), 422)
    problem(http.patch(f"/v1/sessions/{names[0]}", json={"metadata": {"a": [1]}}, headers=headers), 422)
    problem(http.patch(f"/v1/sessions/{names[0]}", json={"title": "x"}, headers={"X-User-ID": "eve"}), 403)
    problem(http.patch(f"/v1/sessions/{new_name()}", json={"title": "x"}, headers=headers), 404, "NotFound")


def test_a_remote_list_is_the_local_one(gateway_process: GatewayProcess, fleet: Fleet) -> None:
    """The same pages, infos, changes, receipts and errors."""
    ann, url = new_name(), f"{gateway_process.url}/agent"
    names = three(fleet, ann)
    choices: list[dict[str, Any]] = [
        {},
        {"limit": 2},
        {"order": "created", "metadata": {"even": True}},
        {"active_since": datetime.now(UTC) - timedelta(days=1)},
        {"unused_since": datetime(2026, 1, 1, tzinfo=UTC)},
    ]
    for options in choices:
        local = Session.list(ann, settings=fleet.settings, **options)
        assert Session.list(ann, agent_url=url, **options) == local
    remote = Session(names[0], ann, agent_url=url)
    assert remote.update(title="Rome", metadata={"n": None}) == fleet.session(names[0]).info() == remote.info()
    for wrong, error in (
        (lambda: Session(names[0], "eve", agent_url=url).info(), SessionOwnerError),
        (lambda: Session(new_name(), ann, agent_url=url).update(title="x"), NotFound),
        (lambda: Session.list(ann, agent_url=url, cursor="x"), BadRequest),
    ):
        with pytest.raises(error):
            wrong()
    assert Session(new_name(), ann, agent_url=url).create(title="Made", metadata={"far": True})
    assert Session.prune(datetime(2026, 1, 1, tzinfo=UTC), ann, agent_url=url)["sessions"] == 0
    assert Session.prune(datetime.now(UTC) + timedelta(days=1), ann, agent_url=url)["sessions"] == 4
    three(fleet, ann)
    assert Session.delete_user(ann, agent_url=url)["sessions"] == 3
    assert len(Session.list(ann, settings=fleet.settings)) == 0


def test_a_key_lists_and_deletes_only_what_is_its_own(secured_gateway: GatewayProcess, secured_store: Server) -> None:
    """A key of one user, one that acts for users, one without a user; another tenant sees nothing of it."""
    tenant, ann, bob = f"t{new_name()}", new_name(), new_name()
    of_ann = made_key(secured_store, tenant=tenant, user=ann)
    acting = made_key(secured_store, tenant=tenant, acts_for_users=True)
    other = made_key(secured_store, tenant=f"t{new_name()}", acts_for_users=True)
    with (
        secured_gateway.client(of_ann) as anns,
        secured_gateway.client(acting) as any_,
        secured_gateway.client(other) as far,
    ):
        as_bob = {"X-User-ID": bob}
        good(anns.post("/v1/sessions", json={"session_id": "a"}), 201)
        good(any_.post("/v1/sessions", json={"session_id": "b"}, headers=as_bob), 201)

        def ids(client: httpx.Client, **headers: Any) -> list[str]:
            return sorted(each["session_id"] for each in good(client.get("/v1/sessions", **headers))["sessions"])

        assert (ids(anns), ids(any_, headers=as_bob), ids(any_), ids(far)) == (["a"], ["b"], ["a", "b"], [])
        problem(anns.get("/v1/sessions", headers=as_bob), 403)
        problem(anns.delete(f"/v1/users/{bob}"), 403)
        assert good(far.delete(f"/v1/users/{ann}"))["sessions"] == 0
        problem(any_.delete(f"/v1/users/{ann}", headers=as_bob), 403)
        assert good(any_.delete(f"/v1/users/{ann}"))["sessions"] == 1
        assert (ids(anns), ids(any_)) == ([], ["b"])


def test_everything_of_a_user_is_deleted(fleet: Fleet) -> None:
    """Sessions with open turns and documents, sessions of tasks, memories, state: no key names the user afterwards."""
    ann, bob = new_name(), new_name()
    for number in range(3):
        session = fleet.session(f"{ann}-{number}", user_id=ann)
        session.Agent("A").chat("SAY hello")
    session.set_state("user:language", "de")
    session.add_memory("Ann likes tea", scope="user")
    session.add_knowledge("Ann's own holidays are in May.", name="own")
    session.add_knowledge("Ann's holidays are in June.", name="hers", scope="user")
    waiting = session.Agent("A").submit("SAY later", not_before=3600.0)
    AgentTeam(
        [fleet.session(f"{ann}-0", user_id=ann).Agent("Helper", instructions="x")], [Task("SAY task")], "parallel"
    ).start()
    kept = fleet.session(f"{bob}-1", user_id=bob)
    kept.Agent("A").chat("SAY hello")
    kept.share(ann)
    receipt = Session.delete_user(ann, settings=fleet.settings)
    assert receipt["sessions"] >= 4  # those of the team's run and task, too
    assert receipt["turns"] >= 5
    assert (receipt["open_turns"], receipt["memories"], receipt["documents"]) == (1, 1, 2)
    assert receipt["chunks"] >= 2
    with pytest.raises(LookupError):
        _ = waiting.status
    with fleet.server.client() as client:
        left = [key for key in client.scan_iter("sf:*", count=1000) if ann.encode() in key and b":op:" not in key]
        assert left == []
        assert not [
            key for key in client.scan_iter("sf:*:meta", count=1000) if client.hget(key, "owner") == ann.encode()
        ]
    assert len(kept.history()) == 2
    assert kept.shared_with() == {}
    assert sum(Session.delete_user(ann, settings=fleet.settings).values()) == 0


def test_a_user_is_not_deleted_by_halves(new_server: Server, tmp_path: Path) -> None:
    """While sessions may be missing in the lists, nothing is deleted."""
    fleet = Fleet(tmp_path, new_server)
    fleet.session("a", user_id="ann").create()
    with new_server.client() as client:
        client.delete(INDEXED)
    with pytest.raises(ListsIncomplete, match="worker"):
        Session.delete_user("ann", settings=fleet.settings)
    assert fleet.session("a").info().user_id == "ann"
    fleet.close()


def test_prune_keeps_what_is_used(new_server: Server, tmp_path: Path) -> None:
    """Sessions with an open turn, and those used since; only a user's if one is named."""
    fleet = Fleet(tmp_path, new_server)
    for name, user in (("old", "ann"), ("other", "bob"), ("open", "ann")):
        fleet.session(name, user_id=user).create()
    fleet.session("open", user_id="ann").Agent("A").submit("SAY hello")
    since = datetime.now(UTC)
    fleet.session("new", user_id="ann").create()
    assert Session.prune(since, "ann", settings=fleet.settings)["sessions"] == 1
    assert sorted(info.session_id for info in Session.list(settings=fleet.settings)) == ["new", "open", "other"]
    assert Session.prune(since, settings=fleet.settings) | {"keys": 0} == {
        "sessions": 1, "keys": 0, "turns": 0, "open_turns": 0, "memories": 0, "files": 0, "documents": 0, "chunks": 0,
        "passages": 0,
    }  # fmt: skip
    assert sorted(info.session_id for info in Session.list(settings=fleet.settings)) == ["new", "open"]
    fleet.close()


def test_the_command_line(fleet: Fleet) -> None:
    """List, show, history, fork, prune and delete, for people and for programs."""
    ann = new_name()
    session = fleet.session(f"{ann}-1", user_id=ann)
    session.Agent("Clerk", instructions="Be brief.").chat("SAY hello\nthere")
    session.update(metadata={"folder": "work", "n": 3})
    fleet.session(f"{ann}-2", user_id=ann).create()
    table = cli(fleet, "list", "--user", ann)
    assert table.returncode == 0, table.stderr
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["session", f"{ann}-2", f"{ann}-1"]
    found = json.loads(cli(fleet, "list", "--user", ann, "--json", "--metadata", "n=3", "--active-since", "1h").stdout)
    assert [(each["session_id"], each["metadata"]) for each in found["sessions"]] == [
        (f"{ann}-1", {"folder": "work", "n": 3})
    ]
    first = cli(fleet, "list", "--user", ann, "--limit", "1")
    cursor = first.stderr.split("--cursor ")[1].strip().rstrip("`")
    assert f"{ann}-1" in cli(fleet, "list", "--user", ann, "--cursor", cursor).stdout
    shown = json.loads(cli(fleet, "show", f"{ann}-1", "--json").stdout)
    assert (shown["title"], shown["turns"], shown["agents"]) == ("SAY hello there", 1, ["Clerk"])
    assert "folder=work" in cli(fleet, "show", f"{ann}-1").stdout
    assert "Clerk: hello" in cli(fleet, "history", f"{ann}-1").stdout
    assert len(json.loads(cli(fleet, "history", f"{ann}-1", "--json").stdout)["messages"]) == 2
    assert cli(fleet, "fork", f"{ann}-1", "--id", f"{ann}-3").stdout.strip() == f"{ann}-3"
    assert "no session" in cli(fleet, "show", f"{ann}-9").stderr
    assert cli(fleet, "prune", "--unused-since", "soon", "--yes").returncode == 1
    assert (
        json.loads(cli(fleet, "prune", "--unused-since", "1d", "--user", ann, "--yes", "--json").stdout)["sessions"]
        == 0
    )
    assert cli(fleet, "delete").returncode == 1
    assert "keys" in cli(fleet, "delete", f"{ann}-1", "--yes").stdout
    assert json.loads(cli(fleet, "delete", "--user", ann, "--yes", "--json").stdout)["sessions"] == 2
    assert "has no sessions" in cli(fleet, "list", "--user", ann).stdout


def test_a_list_of_several_servers(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked once for its partitions; if one of those has moved to another server, each partition is."""
    with three_primaries(tmp_path / "nodes") as nodes:
        env = {"SESSIONFLEET_REDIS_CLUSTER": "1", "SESSIONFLEET_BROKER_URL": f"redis://127.0.0.1:{server.port}/1"}
        with closing(Fleet(tmp_path / "fleet", nodes[0], env)) as fleet:
            for number in range(40):
                fleet.session(f"s{number:02}", user_id="ann").create()
            wanted = [f"s{number:02}" for number in reversed(range(40))]

            def listed() -> list[str]:
                page = Session.list("ann", limit=25, settings=fleet.settings)
                rest = Session.list("ann", limit=25, cursor=page.cursor, settings=fleet.settings)
                return [info.session_id for info in (*page, *rest)]

            assert listed() == wanted
            asked: list[int] = []

            async def wrong(batches: PartitionBatches, _: object) -> list[tuple[str, ...]]:
                asked.append(len(batches._partitions))
                return [batches._partitions]

            monkeypatch.setattr(PartitionBatches, "_by_server", wrong)
            assert listed() == wanted
            assert asked == [256, 256]


def test_a_user_is_deleted_on_a_cluster(cluster_server: Server, server: Server, tmp_path: Path) -> None:
    """Sessions of many slots, listed in pages and deleted."""
    env = {"SESSIONFLEET_REDIS_CLUSTER": "1", "SESSIONFLEET_BROKER_URL": f"redis://127.0.0.1:{server.port}/1"}
    with closing(Fleet(tmp_path, cluster_server, env)) as fleet:
        ann = new_name()
        for number in range(40):
            fleet.session(f"{ann}-{number:02}", user_id=ann).create(metadata={"n": number})
        names, cursor = [], None
        while True:
            page = Session.list(ann, limit=7, cursor=cursor, settings=fleet.settings)
            names += [info.session_id for info in page]
            if (cursor := page.cursor) is None:
                break
        assert names == [f"{ann}-{number:02}" for number in reversed(range(40))]
        assert Session.delete_user(ann, settings=fleet.settings)["sessions"] == 40
        assert len(Session.list(ann, settings=fleet.settings)) == 0
