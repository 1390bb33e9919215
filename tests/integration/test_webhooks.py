"""The webhook of a turn's end: signed, at least once, whatever crashes, and at nobody else's expense."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from typer.testing import CliRunner

from broker_config.settings import load_settings
from broker_config.webhook_secrets import new_secret, secret_text
from sessions import Agent, AgentTeam, Session, Task, Turn, verify_webhook
from sessions.cli.main import app
from sessions.client.deliveries import delivery_lane
from sessions.errors import AddressRefused, BadRequest, IdempotencyConflict, TurnCancelled, TurnFailed, WebhookFailed
from sessions.protocol.turn import TurnStatus
from sessions.protocol.webhook_signature import tenant_secrets
from sessions.store.keys import split_turn_id
from sessions.store.turns import TurnRecord
from tests.support.fleet import ROOT, Fleet, keys_without_ttl, running_fleet
from tests.support.receiver import Path, Receiver, receiving
from tests.support.servers import Server, free_port, running
from tests.support.waiting import wait_until

SECRET = new_secret()
SIGNED = {
    "SESSIONFLEET_WEBHOOK_SECRETS": SECRET,
    "SESSIONFLEET_ALLOWED_HOSTS": "127.0.0.1",
    "SESSIONFLEET_WEBHOOK_PAUSES": "0.1",
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A worker that signs, and one of the queue `turns.short` with short timeouts for receivers."""
    folder: FilePath = tmp_path_factory.mktemp("webhooks")
    with running(Server(folder / "server")) as server:
        short = {"SESSIONFLEET_WEBHOOK_PERIOD": "3", "SESSIONFLEET_WEBHOOK_TIMEOUT": "1.5"}
        workers = {"patient": {}, "short": {"SESSIONFLEET_QUEUES": "short", **short}}
        with running_fleet(folder, server, SIGNED, workers) as fleet:
            yield fleet
            wait_until(lambda: keys_without_ttl(server) == [], description="every key expires")


@pytest.fixture
def session(fleet: Fleet) -> Session:
    return fleet.session(uuid.uuid4().hex, user_id="ann")


@pytest.fixture
def path() -> str:
    """A path of the test's own."""
    return f"/{uuid.uuid4().hex}"


def secret_of(fleet: Fleet, tenant: str = "default") -> str:
    """What a tenant's receivers check with."""
    return secret_text(tenant_secrets(fleet.settings, tenant)[0])


def ended(fleet: Fleet, turn: Turn) -> TurnRecord:
    """The delivery of a turn, when it has ended."""
    delivery = Turn(fleet.client, delivery_lane(turn._keys), turn._part)

    def look() -> TurnRecord | None:
        try:
            record = delivery.record()
        except LookupError:
            return None
        return record if record.status.final else None

    return wait_until(look, description=f"the delivery of {turn.id} has ended")


def test_the_end_of_a_turn_is_told_and_signed(fleet: Fleet, session: Session, receiver: Receiver, path: str) -> None:
    """What is sent is the contract's, and both our check and that of the standard's own package take it."""
    url, notes = receiver.url(f"{path}?key=s3cret"), {"order": 7}
    turn = session.Agent("Guide").submit("SAY hello", webhook=url, metadata=notes)
    (told,) = receiver.got(path)
    payload = verify_webhook(secret_of(fleet), told.headers, told.body)
    assert told.checked_with(secret_of(fleet)) == payload
    assert told.path == f"{path}?key=s3cret"
    assert told.headers["content-type"] == "application/json"
    assert told.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert payload["type"] == "turn.succeeded"
    assert payload["timestamp"].endswith("Z")
    data = payload["data"]
    assert data["usage"].pop("requests") == 1
    assert data.pop("usage")
    assert data == {
        "session_id": session.session_id,
        "turn_id": turn.id,
        "status": "succeeded",
        "user_id": "ann",
        "agent": "Guide",
        "metadata": {"order": 7},
        "result": "hello",
        "error": None,
    }
    delivery = ended(fleet, turn)
    assert delivery.status is TurnStatus.SUCCEEDED
    assert json.loads(delivery.result or b"")["output"] == {"status": 204, "tries": 1}


def test_a_turn_that_waits_is_told_with_its_calls(
    fleet: Fleet, session: Session, receiver: Receiver, path: str
) -> None:
    """Each wait once, and then the end, under ids of their own."""
    message = 'CALL refund({"amount": 90})\nCALL refund({"amount": 95})'
    agent = session.Agent("Guide", tools=["refund"])
    turn = agent.submit(message, webhook=receiver.url(path), metadata={"order": 7})
    for waits, amount in ((1, 90), (2, 95)):
        payload = receiver.got(path, waits)[-1].checked_with(secret_of(fleet))
        (call,) = payload["data"].pop("calls")
        assert (call["tool"], call["args"], call["kind"]) == ("refund", {"amount": amount}, "approval")
        assert payload["type"] == "turn.waiting"
        assert payload["data"] == {
            "session_id": session.session_id,
            "turn_id": turn.id,
            "status": "waiting",
            "user_id": "ann",
            "agent": "Guide",
            "metadata": {"order": 7},
        }
        fleet.session(session.session_id).turn(payload["data"]["turn_id"]).deny(call["call_id"])
    turn.result(timeout=30)
    received = receiver.got(path, 3)
    assert len({each.headers["webhook-id"] for each in received}) == 3
    assert json.loads(received[-1].body)["type"] == "turn.succeeded"


def test_a_turn_that_fails_is_told_with_its_error(
    fleet: Fleet, session: Session, receiver: Receiver, path: str
) -> None:
    """The webhook has the error that `result()` raises."""
    turn = session.Agent().submit("FAIL 400 9", webhook=receiver.url(path))
    payload = receiver.got(path)[0].checked_with(secret_of(fleet))
    assert payload["type"] == "turn.failed"
    assert payload["data"]["error"]["type"] == "ModelError"
    assert payload["data"]["result"] is None
    with pytest.raises(TurnFailed):
        turn.result()


def test_a_receiver_that_fails_is_tried_again_with_the_same_message(
    fleet: Fleet, session: Session, receiver: Receiver, path: str
) -> None:
    """Id and body are the same at each try, so that a receiver can tell a repetition; redirects are not followed."""
    receiver.paths[path] = Path([500, 302, 429], headers={"Retry-After": "0", "Location": receiver.url("/elsewhere")})
    turn = session.Agent().submit("SAY hello", webhook=receiver.url(path))
    told = receiver.got(path, 4)
    assert len({one.id for one in told}) == 1
    assert len({one.body for one in told}) == 1
    assert all(one.checked_with(secret_of(fleet)) for one in told)
    assert receiver.at("/elsewhere") == []
    assert json.loads(ended(fleet, turn).result or b"")["output"] == {"status": 204, "tries": 4}


def test_a_receiver_that_hangs_holds_up_neither_turns_nor_other_webhooks(
    fleet: Fleet, session: Session, receiver: Receiver, path: str
) -> None:
    """The session continues meanwhile; another webhook of it is sent while the first one is pausing."""
    short = fleet.session(uuid.uuid4().hex, queue="short")
    receiver.paths[path] = Path(let_go=threading.Event())
    first = short.Agent().submit("SAY one", webhook=receiver.url(path))
    receiver.got(path)
    assert short.Agent().chat("SAY two") == "two"
    second = short.Agent().submit("SAY three", webhook=receiver.url(f"{path}/other"))
    assert second.result(timeout=30) == "three"
    receiver.got(f"{path}/other")
    assert ended(fleet, second).status is TurnStatus.SUCCEEDED
    assert ended(fleet, first).status is TurnStatus.DEAD_LETTERED


def test_a_turn_that_no_worker_ever_had_is_told(fleet: Fleet, session: Session, receiver: Receiver, path: str) -> None:
    """It was cancelled while it was queued behind another one, which goes on: its end is not waited for."""
    agent = session.Agent()
    running = agent.submit("SLEEP 60")
    wait_until(lambda: running.status is TurnStatus.RUNNING, description="the first turn runs")
    waiting = agent.submit("SAY never", webhook=receiver.url(path))
    assert waiting.cancel() is TurnStatus.CANCELLED
    payload = receiver.got(path)[0].checked_with(secret_of(fleet))
    assert payload["type"] == "turn.cancelled"
    assert payload["data"]["turn_id"] == waiting.id
    assert running.status is TurnStatus.RUNNING
    running.cancel()
    with pytest.raises(TurnCancelled):
        waiting.result()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "127.1", "[::1]", "169.254.169.254"])
def test_a_private_address_is_refused_to_the_caller(
    fleet: Fleet, session: Session, receiver: Receiver, path: str, host: str
) -> None:
    """If the URL shows it without resolving. `127.0.0.1` was allowed, by that name."""
    with pytest.raises(AddressRefused, match="SESSIONFLEET_ALLOWED_HOSTS"):
        session.Agent().submit("SAY hello", webhook=receiver.url(path, host=host))


def test_a_name_of_a_private_address_is_refused_by_the_worker(
    fleet: Fleet, session: Session, receiver: Receiver, path: str
) -> None:
    """At once and permanently: this machine's own name is not the allowed one, although it resolves to it."""
    turn = session.Agent().submit("SAY hello", webhook=receiver.url(path, host=socket.gethostname()))
    delivery = ended(fleet, turn)
    assert delivery.status is TurnStatus.FAILED
    assert delivery.error is not None
    assert delivery.error.type == "WebhookFailed"
    assert "not public" in delivery.error.message
    assert receiver.at(path) == []


def test_a_receiver_that_is_gone_is_not_tried_again(
    fleet: Fleet, session: Session, receiver: Receiver, path: str
) -> None:
    """410 says that the receiver wants no more webhooks."""
    receiver.paths[path] = Path([410])
    turn = session.Agent().submit("SAY hello", webhook=receiver.url(path))
    delivery = ended(fleet, turn)
    assert (delivery.status, delivery.retries) == (TurnStatus.FAILED, 0)


def test_what_nobody_took_is_a_dead_letter_that_can_be_tried_again(
    fleet: Fleet, receiver: Receiver, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dead list` shows it, `turns show` says why, `dead retry` sends it again, as the same message."""
    session = fleet.session(uuid.uuid4().hex, queue="short")
    receiver.paths[path] = Path([500] * 99)
    turn = session.Agent().submit("SAY hello", webhook=receiver.url(f"{path}?key=s3cret"))
    assert ended(fleet, turn).status is TurnStatus.DEAD_LETTERED
    delivery = f"{session.session_id}~webhooks~{turn._part}"
    assert delivery in cli(fleet, monkeypatch, "dead", "list")
    shown = cli(fleet, monkeypatch, "turns", "show", delivery)
    assert "answered 500; tried" in shown
    assert "s3cret" not in shown
    assert "dead_lettered" in cli(fleet, monkeypatch, "turns", "show", turn.id)

    before = len(receiver.at(path))
    receiver.paths[path].statuses.clear()
    said = cli(fleet, monkeypatch, "dead", "retry", delivery)
    assert "retrying webhook" in said
    assert len({one.id for one in receiver.got(path, before + 1)}) == 1
    assert delivery not in cli(fleet, monkeypatch, "dead", "list")
    wait_until(
        lambda: '"status": "succeeded"' in cli(fleet, monkeypatch, "turns", "show", turn.id).partition("webhook")[2],
        description="the turn shows that it was told",
    )
    assert "has already been delivered" in cli(fleet, monkeypatch, "dead", "retry", delivery)
    assert "has already been delivered" in cli(fleet, monkeypatch, "dead", "retry", turn.id)


def test_only_webhooks_are_tried_again(fleet: Fleet, session: Session) -> None:
    """The delivery is repeated; the turn is not."""
    turn = session.Agent().submit("SAY hello")
    turn.result()
    with pytest.raises(BadRequest, match="has no webhook"):
        _deliver_again(fleet, turn)


def _deliver_again(fleet: Fleet, turn: Turn) -> None:
    async def again() -> None:
        await (await fleet.client.deliveries()).retry(turn._keys, turn._part)

    fleet.client.portal.call(again())


def cli(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, *args: str) -> str:
    """What a command prints."""
    monkeypatch.setenv("REDIS_URL", fleet.server.url)
    load_settings.cache_clear()
    try:
        done = CliRunner().invoke(app, list(args), catch_exceptions=False)
    finally:
        monkeypatch.undo()
        load_settings.cache_clear()
    assert done.exit_code == 0, done.output
    return done.output


def test_tenants_cannot_forge_each_other_s_webhooks(fleet: Fleet, receiver: Receiver, path: str) -> None:
    """Each tenant has its own secret."""
    for tenant in ("acme", "other"):
        session = Session(uuid.uuid4().hex, tenant=tenant, settings=fleet.settings)
        session.Agent().submit(f"SAY {tenant}", webhook=receiver.url(f"{path}/{tenant}"))
    (acme,), (other,) = receiver.got(f"{path}/acme"), receiver.got(f"{path}/other")
    assert acme.checked_with(secret_of(fleet, "acme"))["data"]["result"] == "acme"
    assert other.checked_with(secret_of(fleet, "other"))["data"]["result"] == "other"
    with pytest.raises(WebhookVerificationError):
        acme.checked_with(secret_of(fleet, "other"))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(acme.body, acme.headers)


def test_a_team_s_run_is_told(fleet: Fleet, receiver: Receiver, path: str) -> None:
    """A run is reported like any other turn; the turns of its tasks are not."""
    worker = Agent("Worker", session=fleet.session(uuid.uuid4().hex))
    team = AgentTeam([worker], [Task("SAY done")], settings=fleet.settings)
    run = team.submit(webhook=receiver.url(path))
    assert run.result(timeout=40).text == "done"
    (told,) = receiver.got(path)
    assert told.checked_with(secret_of(fleet))["data"]["turn_id"] == run.id


def test_a_document_on_its_way_in_is_told_of(fleet: Fleet, session: Session, receiver: Receiver, path: str) -> None:
    """It is reported as an operation, in the lane of its session."""
    operation = session.submit_knowledge("Trains are booked in second class.", webhook=receiver.url(path))
    data = receiver.got(path)[0].checked_with(secret_of(fleet))["data"]
    assert (data["turn_id"], data["session_id"]) == (operation.id, session.session_id)
    assert (data["agent"], data["result"]["status"]) == ("add_knowledge", "added")


def test_the_page_s_receiver_is_told(fleet: Fleet, tmp_path: FilePath, path: str) -> None:
    """The two scripts of docs/webhooks.md, as a reader runs them, but for the port."""
    blocks = dict(
        re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", (ROOT / "docs" / "webhooks.md").read_text(), re.M | re.S)
    )
    port = free_port()
    for name, text in blocks.items():
        (tmp_path / name).write_text(text.replace("http://127.0.0.1:9000", f"http://127.0.0.1:{port}"))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": fleet.server.url, "PORT": str(port)}
    command = [sys.executable, "-W", "error", str(tmp_path / "receiver.py")]
    process = subprocess.Popen(
        command, env={**env, "WEBHOOK_SECRET": secret_of(fleet)}, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: _listens(port), description="the page's receiver listens")
        told = subprocess.run(
            [sys.executable, "-W", "error", str(tmp_path / "tell_me.py")],
            env=env, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        assert process.stdout is not None
        assert process.stdout.readline() == f"turn.succeeded {told.stdout.strip()} ok\n"
        session_id, part = split_turn_id(told.stdout.strip())
        assert ended(fleet, Turn(fleet.client, fleet.client.keys(session_id), part)).status is TurnStatus.SUCCEEDED
    finally:
        process.kill()
        process.communicate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_repeated_request_has_one_webhook(fleet: Fleet, session: Session, receiver: Receiver, path: str) -> None:
    """The first one's; to name another one with the same key is another request."""
    agent, url = session.Agent(), receiver.url(path)
    first = agent.submit("SAY hello", idempotency_key="k", webhook=url)
    assert agent.submit("SAY hello", idempotency_key="k", webhook=url).id == first.id
    with pytest.raises(IdempotencyConflict):
        agent.submit("SAY hello", idempotency_key="k", webhook=receiver.url("/elsewhere"))
    assert ended(fleet, first).status is TurnStatus.SUCCEEDED
    assert len(receiver.at(path)) == 1


def test_a_deleted_session_is_told_of_no_more(fleet: Fleet, receiver: Receiver, path: str) -> None:
    """Undelivered webhooks are deleted with the session, and leave no key."""
    session = fleet.session(uuid.uuid4().hex)
    receiver.paths[path] = Path([500] * 999)
    session.Agent().submit("SAY hello", webhook=receiver.url(path))
    receiver.got(path, 2)
    session.delete()
    with fleet.server.client() as client:
        wait_until(
            lambda: not list(client.scan_iter(f"*{session.session_id}*", count=1000)),
            description="no key of the session is left",
        )


def test_no_log_has_what_a_url_may_hide(fleet: Fleet, session: Session, receiver: Receiver, path: str) -> None:
    """Neither its path nor its query, at whatever ends the delivery."""
    receiver.paths[path] = Path([500])
    turn = session.Agent().submit("SAY hello", webhook=receiver.url(f"{path}?key=s3cret"))
    ended(fleet, turn)
    log = "".join(worker.log for worker in fleet.workers)
    assert "webhook_not_delivered" in log
    assert "s3cret" not in log
    assert path not in log
    assert SECRET.removeprefix("whsec_") not in log


def test_a_killed_worker_s_delivery_is_made_by_another(new_fleet: Callable[..., Fleet], receiver: Receiver) -> None:
    """kill -9 while the receiver has the message and no response was read: it is sent again, under the same id."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1", **SIGNED)
    fleet.start("a")
    fleet.start("b")
    fleet.ready()
    path = f"/{uuid.uuid4().hex}"
    receiver.paths[path] = Path(let_go=threading.Event())
    turn = fleet.session("s").Agent().submit("SAY hello", webhook=receiver.url(path))
    receiver.got(path)
    delivery = Turn(fleet.client, delivery_lane(turn._keys), turn._part)
    worker = delivery.record().worker or ""
    next(one for one in fleet.workers if worker.startswith(f"{one.name}@")).kill()
    receiver.paths[path].let_go.set()  # type: ignore[union-attr]
    told = receiver.got(path, 2)
    assert told[0].id == told[1].id
    assert told[0].body == told[1].body
    assert ended(fleet, turn).status is TurnStatus.SUCCEEDED
    assert delivery.record().crashes == 1
    wait_until(lambda: keys_without_ttl(fleet.server) == [], description="every key expires")


def test_what_a_caller_gets_who_gives_what_is_no_address(fleet: Fleet, session: Session) -> None:
    """Nothing is accepted, and the message does not repeat what may be a secret."""
    wrong: list[Any] = [
        "",
        "ftp://h/x",
        "https://",
        "http://me:pa55@h/x",
        "no url",
        "https://h:port/",
        7,
        "https://h/a b",
    ]
    for url in wrong:
        with pytest.raises(ValueError, match="webhook") as caught:
            session.Agent().submit("SAY hello", webhook=url)
        assert "pa55" not in str(caught.value)


def test_workers_without_a_secret_take_no_webhooks(new_fleet: Callable[..., Fleet]) -> None:
    """The error names the command that generates one."""
    fleet = new_fleet()
    with pytest.raises(ValueError, match="sessionfleet keys webhook --new"):
        fleet.session().Agent().submit("SAY hello", webhook="https://example.org/hook")


def test_an_error_of_a_delivery_is_one_of_the_tree(fleet: Fleet, session: Session, receiver: Receiver) -> None:
    """Asking a delivery for its result gives the reason why there is none."""
    path = f"/{uuid.uuid4().hex}"
    receiver.paths[path] = Path([410])
    turn = session.Agent().submit("SAY hello", webhook=receiver.url(path))
    ended(fleet, turn)
    with pytest.raises(WebhookFailed, match="answered 410"):
        Turn(fleet.client, delivery_lane(turn._keys), turn._part).result()
