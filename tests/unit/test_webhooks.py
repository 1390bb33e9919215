"""Webhooks: what a receiver accepts and refuses, what the secrets are, and when a delivery is retried."""

from __future__ import annotations

import asyncio
import base64
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, cast

import httpx
import pytest
from redis.exceptions import ConnectionError  # noqa: A004 - as redis-py calls it
from standardwebhooks.webhooks import Webhook

from broker_config.settings import Settings, SettingsError, load_settings
from broker_config.webhook_secrets import new_secret, parse_secret, parse_secrets, secret_text
from sessions import verify_webhook
from sessions.cli.verdicts import Verdict
from sessions.cli.webhook_check import webhook_check
from sessions.client.admission_checks import refuse_webhook, webhooks_of
from sessions.client.deliveries import delivery_lane
from sessions.errors import AddressRefused, BadRequest, InvalidWebhook, StoreUnavailable
from sessions.fleet.home import fingerprint, settings_environment
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.protocol.webhook_requests import DeliverWebhook
from sessions.protocol.webhook_signature import signed_headers, tenant_secrets
from sessions.protocol.worker_info import WebhookOffer, WorkerInfo
from sessions.store.activity import Activity
from sessions.store.keys import SessionKeys, split_turn_id
from sessions.store.leases import Ending
from sessions.store.turns import _FIELDS, TurnStore
from tests.support.servers import free_port
from workers.engine.ports import LeaseLost
from workers.lease.outcomes import Postpone, Redeliver
from workers.turns.webhook_delivery import NotDelivered, WebhookDelivery, _seconds

SECRET = new_secret()
BODY = b'{"type":"turn.succeeded"}'


def signed(body: bytes = BODY, secret: str = SECRET, **options: Any) -> dict[str, str]:
    return signed_headers([parse_secret(secret)], "msg_1", body, **options)


# --- what a receiver accepts ----------------------------------------------------------------------------------


def test_what_was_signed_is_taken() -> None:
    """In any spelling of the headers, and as the package of the standard signs it."""
    assert verify_webhook(SECRET, signed(), BODY) == {"type": "turn.succeeded"}
    assert verify_webhook(SECRET, {k.title(): v for k, v in signed().items()}, BODY.decode())
    now = datetime.now(tz=UTC)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}
    signature = Webhook(SECRET).sign("msg_1", now, BODY.decode())
    assert verify_webhook(SECRET, {**headers, "webhook-signature": f"v1a,xyz {signature}"}, BODY)


def test_while_secrets_change_each_of_them_does() -> None:
    """The sender signs with every secret; a receiver needs one of them."""
    other = new_secret()
    headers = signed_headers([parse_secret(SECRET), parse_secret(other)], "msg_1", BODY)
    for secret in (SECRET, other):
        assert verify_webhook(secret, headers, BODY)
        assert Webhook(secret).verify(BODY, headers)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,\xff"},
        {"webhook-signature": "v2,{}"},
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "yesterday"},
        {"webhook-timestamp": "1e999"},
    ],
)
def test_what_was_changed_is_refused(change: dict[str, str]) -> None:
    """A change to any of the three headers is detected."""
    headers = signed()
    signature = headers["webhook-signature"].removeprefix("v1,")
    with pytest.raises(InvalidWebhook):
        verify_webhook(SECRET, headers | {k: v.replace("{}", signature) for k, v in change.items()}, BODY)


def test_another_body_or_secret_is_refused() -> None:
    """One byte is enough."""
    for secret, body in ((SECRET, BODY + b" "), (new_secret(), BODY)):
        with pytest.raises(InvalidWebhook, match="signatures was made with this secret"):
            verify_webhook(secret, signed(), body)


@pytest.mark.parametrize("apart", [-400, 400])
def test_an_old_one_sent_again_is_refused(apart: int) -> None:
    """As is one from the future; how far is the receiver's to say."""
    headers = signed(at=int(time.time()) + apart)
    with pytest.raises(InvalidWebhook, match="clock"):
        verify_webhook(SECRET, headers, BODY)
    assert verify_webhook(SECRET, headers, BODY, tolerance=1000)


@pytest.mark.parametrize("body", [b"[]", b"no json", b"\xff"])
def test_a_signed_body_that_is_no_object_is_refused(body: bytes) -> None:
    """The error is one of ours, whatever the body is."""
    with pytest.raises(InvalidWebhook):
        verify_webhook(SECRET, signed(body), body)


# --- secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_"), f"{SECRET},{SECRET}"],
    ids=["empty", "prefix", "short", "no-prefix", "two"],  # the secret is generated again in each process
)
def test_a_secret_that_is_none_is_refused_without_a_word_of_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the settings and the receiver's check refuse it."""
    with pytest.raises(ValueError, match=r"whsec_|duplicate") as refused:
        parse_secrets(text)
    monkeypatch.setenv("SESSIONFLEET_WEBHOOK_SECRETS", text)
    load_settings.cache_clear()
    with pytest.raises(SettingsError, match="SESSIONFLEET_WEBHOOK_SECRETS") as unset:
        load_settings()
    load_settings.cache_clear()
    with pytest.raises(BadRequest) as unusable:
        verify_webhook(text, signed(), BODY)
    for caught in (refused, unset, unusable):
        assert SECRET.removeprefix("whsec_") not in str(caught.value)


def test_each_tenant_has_secrets_of_its_own() -> None:
    """One for each of the deployment's, in their order, with its own length, and none of them the deployment's."""
    both = Settings(webhook_secrets=f"{SECRET},{new_secret()}")  # type: ignore[arg-type]
    first = Settings(webhook_secrets=SECRET)  # type: ignore[arg-type]
    assert tenant_secrets(both, "a")[:1] == tenant_secrets(first, "a") != tenant_secrets(first, "b")
    assert len(set(tenant_secrets(both, "a"))) == 2
    assert parse_secret(SECRET) not in tenant_secrets(both, "a")
    assert parse_secret(secret_text(tenant_secrets(first, "a")[0])) == tenant_secrets(first, "a")[0]
    assert len(base64.b64decode(SECRET.removeprefix("whsec_"))) == 32
    assert tenant_secrets(Settings(), "a") == ()


def test_a_fleet_that_starts_by_itself_has_the_settings() -> None:
    """It restarts when they differ; no secret is in a `repr`."""
    settings = Settings(webhook_secrets=SECRET, webhook_pauses=(1.5, 3), allowed_hosts=("a", "b:1"))  # type: ignore[arg-type]
    environment = settings_environment(settings)
    assert environment["SESSIONFLEET_WEBHOOK_SECRETS"] == SECRET
    assert environment["SESSIONFLEET_WEBHOOK_PAUSES"] == "1.5,3.0"
    assert environment["SESSIONFLEET_ALLOWED_HOSTS"] == "a,b:1"
    other = settings.model_copy(update={"webhook_secrets": Settings(webhook_secrets=new_secret()).webhook_secrets})  # type: ignore[arg-type]
    assert fingerprint(settings) != fingerprint(other)
    assert SECRET.removeprefix("whsec_") not in repr(settings)


# --- what workers say of themselves ------------------------------------------------------------------------------


def seen(*offers: WebhookOffer, queues: tuple[str, ...] = ("turns",)) -> Activity:
    """A fleet of workers like these."""
    workers = tuple(
        WorkerInfo(id=str(n), host="h", pid=1, started=0.0, queues=queues, concurrency=1, webhooks=offer)
        for n, offer in enumerate(offers)
    )
    return Activity(workers, {}, 0)


def test_a_worker_says_what_it_does_about_webhooks() -> None:
    """Clients then need no secret of their own."""
    assert webhooks_of(Settings()) == WebhookOffer(to="unsigned")
    assert webhooks_of(Settings(webhook_urls="off")) == WebhookOffer(to="off")
    both = Settings(webhook_secrets=SECRET, allowed_hosts=("Wiki.Internal",))  # type: ignore[arg-type]
    assert webhooks_of(both) == WebhookOffer(to="public", hosts=("wiki.internal",))


def test_one_worker_that_would_send_it_is_enough() -> None:
    """It goes to whichever does; else the message says what to set."""
    offers = [WebhookOffer(to="unsigned"), WebhookOffer(to="public", hosts=("127.0.0.1:80",)), WebhookOffer(to="off")]
    refuse_webhook("https://example.org/x", offers, "turns")
    refuse_webhook("http://127.0.0.1/x", offers, "turns")
    with pytest.raises(AddressRefused):
        refuse_webhook("https://127.0.0.1/x", offers, "turns")
    refuse_webhook("https://127.0.0.1/x", [WebhookOffer(to="any")], "turns")
    for offer, said in (("off", "SESSIONFLEET_WEBHOOK_URLS"), ("unsigned", "sessionfleet keys webhook --new")):
        with pytest.raises(BadRequest, match=said):
            refuse_webhook("https://example.org/x", [WebhookOffer(to=offer)], "turns")  # type: ignore[arg-type]


def test_the_doctor_says_whether_webhooks_are_sent() -> None:
    """To leave them out is nothing wrong; workers that differ are."""
    public, unsigned, off = (WebhookOffer(to=to) for to in ("public", "unsigned", "off"))  # type: ignore[arg-type]
    assert "signed, to public" in webhook_check(seen(public)).says
    assert "keys webhook --new" in webhook_check(seen(unsigned)).says
    assert webhook_check(seen(off)).verdict is Verdict.OK
    assert webhook_check(seen(public, unsigned)).verdict is Verdict.WARNING
    assert "no running worker" in webhook_check(seen(public, queues=("retrieval",))).says


def test_every_lane_s_turns_are_told_from_one_lane_of_its_home() -> None:
    """Documents of sessions, users and bases; the id of a delivery can be read back."""
    session, user = SessionKeys.of("t", "a:b", 8), SessionKeys.wide("t", "~user:ann", 8)
    for keys, home in ((session, session), (session.lane("knowledge"), session), (user.lane("knowledge"), user)):
        lane = delivery_lane(keys)
        assert lane == home.lane("webhooks")
        part = "0" * 32
        assert split_turn_id(lane.public_id(part)) == (lane.session_id, part)
        assert SessionKeys.from_id("t", lane.session_id, 8) == lane == SessionKeys.from_ref(lane.ref, 8)


# --- when it is retried ---------------------------------------------------------------------------------------


class _Begun:
    def __init__(self, tried: int, age: float) -> None:
        self.retries = tried
        self.accepted_ms = 0
        self.now_ms = int(age * 1000)


class _Held:
    def __init__(self, tried: int, age: float) -> None:
        self.turn = _Begun(tried, age)
        self.attempt_started = time.monotonic()
        self.keys = SessionKeys.of("t", "s", 8).lane("webhooks")


def delivery(**settings: Any) -> WebhookDelivery:
    return WebhookDelivery(Settings(**settings), cast(Any, None))


def after(tried: int, age: float, retry_after: float = 0.0, **settings: Any) -> Any:
    """The outcome of a delivery whose try number `tried` + 1 failed, `age` seconds after its acceptance."""
    error = NotDelivered("no", retry_after)
    return delivery(**settings)._try_later(cast(Any, _Held(tried, age)), DeliverWebhook(turn=f"s~{'0' * 32}"), error)


def test_pauses_grow_and_the_last_one_repeats() -> None:
    """Each a fifth shorter or longer at most, so that a receiver that comes back is not met by all at once."""
    for tried, pause in enumerate((5, 300, 1800, 7200, 18000, 36000, 36000)):
        later = after(tried, 10, webhook_period=1e6)
        assert isinstance(later, Redeliver)
        assert 0.8 * pause <= later.pause <= 1.2 * pause


def test_a_receiver_may_ask_for_more_time() -> None:
    """It may not ask for less, nor for more than the remaining time."""
    assert after(0, 10, retry_after=60).pause == 60
    assert after(1, 10, retry_after=1).pause >= 240
    assert after(0, 86_390, retry_after=1e9).pause <= 10


def test_the_last_try_is_made_when_the_time_is_up() -> None:
    """Then it becomes a dead letter with the last error."""
    assert 0 < after(6, 80_000).pause <= 6_400
    ending = after(7, 86_400.5)
    assert isinstance(ending, Ending)
    assert ending.status is TurnStatus.DEAD_LETTERED
    assert b"tried 8 times in 86400 s" in ending.error


class _Away:
    """A store that goes away after this many answers."""

    def __init__(self, answers: int) -> None:
        self.answers = answers

    async def read(self, *_: Any) -> list[bytes | None]:
        if not self.answers:
            raise StoreUnavailable("the store does not answer")
        known = {b"status": b"succeeded", b"attempt": b"1", b"accepted": b"1", b"deadline": b"1"}
        return [known.get(field) for field in _FIELDS]

    async def hget(self, *_: Any) -> bytes:
        self.answers -= 1
        if self.answers <= 0:
            raise ConnectionError("gone")
        return TurnRequest(message="hi", agent="a").model_dump_json().encode()


@pytest.mark.parametrize("answers", range(3))
async def test_an_outage_of_the_store_is_one_more_try(answers: int) -> None:
    """After however many that the receiver refused: a turn's few retries would end the delivery before its time."""
    request = DeliverWebhook(turn=f"s~{'0' * 32}")
    held, store = _Held(50, 60), cast(Any, _Away(answers))
    settings = Settings(webhook_secrets=SECRET)  # type: ignore[arg-type]
    outcome = await WebhookDelivery(settings, TurnStore(store, store, settings)).deliver(cast(Any, held), request)
    assert isinstance(outcome, Redeliver)


class _Frozen(_Held):
    """Its worker stood still until the lease had ended."""

    def check_held(self) -> None:
        raise LeaseLost


async def test_nothing_is_sent_after_the_lease_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have delivered it: the receiver would get it twice for no reason."""
    sent: list[str] = []

    async def posted(*_: Any) -> tuple[int, float]:
        sent.append("sent")
        return 200, 0.0

    work = delivery(webhook_secrets=SECRET)
    monkeypatch.setattr(work, "_message", lambda *_: asyncio.sleep(0, (httpx.URL("http://127.0.0.1/"), b"{}")))
    monkeypatch.setattr(work, "_post", posted)
    with pytest.raises(LeaseLost):
        await work.deliver(cast(Any, _Frozen(0, 0)), DeliverWebhook(turn=f"s~{'0' * 32}"))
    assert sent == []


def test_retry_after_is_a_number_or_a_date() -> None:
    """Any other value is ignored."""
    assert _seconds("120") == 120
    assert 50 < _seconds(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60
    for said in ("", "soon", "-5", "\u00b2", "Mon, 01 Jan 0000", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert _seconds(said) == 0


async def test_a_connection_that_fails_says_of_what() -> None:
    """The error has the cause, and of the URL only its origin."""
    url = httpx.URL(f"http://127.0.0.1:{free_port()}/secret?key=s3cret")
    with pytest.raises(NotDelivered, match=r"127.0.0.1:\d+' cannot be reached \(.+ .+\)") as caught:
        await delivery(webhook_urls="any")._post(url, {}, b"{}")
    assert "s3cret" not in str(caught.value)
    assert "/secret" not in str(caught.value)


async def test_receivers_take_a_quarter_of_the_slots_at_most() -> None:
    """The next delivery is given back, and does not count as a try: turns need slots too."""
    busy = delivery(concurrency=8)
    busy._under_way.update({"a": 1, "b": 1})
    assert isinstance(await busy.deliver(cast(Any, _Held(0, 0)), cast(Any, None)), Postpone)
    assert busy._under_way == {"a": 1, "b": 1}


async def test_one_tenants_receivers_leave_a_place_to_others() -> None:
    """Those of one may all hang for as long as they are let; what was under way counts no more when it is over."""
    busy, request = delivery(concurrency=16), DeliverWebhook(turn=f"s~{'0' * 32}")
    busy._under_way["t"] = 3
    assert isinstance(await busy.deliver(cast(Any, _Held(0, 0)), request), Postpone)
    other = _Held(0, 0)
    other.keys = SessionKeys.of("other", "s", 8).lane("webhooks")
    assert isinstance(await busy.deliver(cast(Any, other), request), Redeliver), "no secret is set: another time"
    assert busy._under_way == {"t": 3}
    busy._under_way["t"] = 2
    assert isinstance(await busy.deliver(cast(Any, _Held(0, 0)), request), Redeliver)
    assert isinstance(await delivery(concurrency=8).deliver(cast(Any, _Held(0, 0)), request), Redeliver)
