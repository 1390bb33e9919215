"""API keys as the gateway checks them: their form, what is remembered of them, and what a flood of bad ones costs."""

from __future__ import annotations

import asyncio
import time

import pytest

from sessions.errors import StoreUnavailable, TooManyRequests, Unauthenticated
from sessions.gateway import api_key, api_keys
from sessions.gateway.api_key import digest_of, id_in, is_key, new_key
from sessions.gateway.api_keys import ApiKeys, principal_of
from sessions.gateway.last_use import LastUse
from sessions.gateway.principal import Right
from sessions.store.api_keys import ApiKeyRecord


class Records:
    """What is stored, and how often it was asked for."""

    def __init__(self) -> None:
        self.records: dict[str, ApiKeyRecord] = {}
        self.asked: list[str] = []
        self.down = False

    def issue(self, **options: object) -> str:
        key_id, key = new_key()
        fields = {"tenant": "default", "rights": ("read",), "created_ms": 1, **options}
        self.records[key_id] = ApiKeyRecord(id=key_id, digest=digest_of(key), **fields)  # type: ignore[arg-type]
        return key

    async def find(self, key_id: str) -> ApiKeyRecord | None:
        self.asked.append(key_id)
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable
        return self.records.get(key_id)


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def keys(records: Records) -> ApiKeys:
    return ApiKeys(records.find)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by which things are forgotten; a test moves it."""
    now = [1000.25]
    monkeypatch.setattr("sessions.gateway.api_keys.monotonic", lambda: now[0])
    return now


def test_a_key_has_its_id_and_more_than_128_random_bits() -> None:
    """`sfk_<id>_<secret>`; no two are the same."""
    made = [new_key() for _ in range(200)]
    assert all(id_in(key) == key_id for key_id, key in made)
    assert len({key_id for key_id, _ in made}) == len({key for _, key in made}) == 200
    assert len(made[0][1].rpartition("_")[2]) == 43  # of 62 letters: 256 bits


@pytest.mark.parametrize(
    "text",
    ["", "sfk_", "sfk__", "sfk_abc_def", "SFK_" + "a" * 12 + "_" + "b" * 43, "sfk_" + "a" * 12 + "_" + "b" * 43 + "\n",
     "sfk_" + "a" * 12 + "_" + "é" * 43, "sfk_" + "a" * 12 + "_" + "b" * 44, "sfk_" + "A" * 12 + "_" + "b" * 43,
     "sfk_" + "a" * 12 + "_" + "\u0661" * 43, "sfk_" + "a" * 12 + "_" + "b" * 1_000_000],
    ids=range(11),
)  # fmt: skip
async def test_what_has_not_the_form_of_a_key_is_refused_without_asking(
    keys: ApiKeys, records: Records, text: str
) -> None:
    """Digits of other alphabets, a line's end, a megabyte: none of it reaches the store."""
    with pytest.raises(Unauthenticated):
        await keys.principal(text)
    assert records.asked == []


async def test_a_key_tells_whose_it_is(keys: ApiKeys, records: Records) -> None:
    """Tenant, user, rights and limits; one created for no user is a user of its own."""
    key = records.issue(tenant="acme", rights=("read", "write", "of a later version"), rate=7, concurrency=0)
    principal = await keys.principal(key)
    assert principal.tenant == "acme"
    assert principal.user == f"key:{id_in(key)}" == principal.id
    assert principal.rights == {Right.READ, Right.WRITE}
    assert (principal.rate, principal.concurrency, principal.acts_for_users) == (7, 0, False)
    assert (await keys.principal(records.issue(user="alice"))).user == "alice"
    backend = await keys.principal(records.issue(acts_for_users=True))
    assert (backend.user, backend.acts_for_users) == (None, True)


async def test_a_key_that_acts_for_users_is_none_itself() -> None:
    """This holds whatever else its record says."""
    record = ApiKeyRecord(
        id="a", tenant="t", user="alice", acts_for_users=True, rights=(), digest=digest_of("k"), created_ms=1
    )
    assert principal_of(record).user is None


async def test_another_secret_of_the_same_id_is_refused(keys: ApiKeys, records: Records) -> None:
    """Before and after the right one was seen: what is remembered is the record, not that someone was let in."""
    key = records.issue()
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for one, good in ((wrong, False), (key, True), (wrong, False)):
        if good:
            await keys.principal(one)
        else:
            with pytest.raises(Unauthenticated):
                await keys.principal(one)
    assert len(records.asked) == 1


async def test_a_record_under_another_id_opens_nothing(keys: ApiKeys, records: Records) -> None:
    """The id is part of the digest: someone who can move records in the store cannot make one key from another."""
    key = records.issue()
    key_id = id_in(key)
    assert key_id is not None
    other = "z" * 12
    records.records[other] = records.records[key_id]
    with pytest.raises(Unauthenticated):
        await keys.principal(key.replace(key_id, other))


async def test_a_revoked_key_is_refused_two_seconds_later(keys: ApiKeys, records: Records, clock: list[float]) -> None:
    """An answer of the store is cached for this long and no longer; a key in constant use is no exception."""
    key = records.issue()
    await keys.principal(key)
    records.records.clear()
    clock[0] += api_keys.REMEMBERED - 0.01
    await keys.principal(key)
    clock[0] += 0.02
    with pytest.raises(Unauthenticated):
        await keys.principal(key)


async def test_a_key_past_its_time_is_refused_at_once(
    keys: ApiKeys, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cached answer includes the time at which the key expires."""
    key = records.issue(expires_ms=int(time.time() * 1000) + 3_600_000)
    await keys.principal(key)
    later = time.time() + 3601
    monkeypatch.setattr("sessions.gateway.api_key.time.time", lambda: later)
    with pytest.raises(Unauthenticated):
        await keys.principal(key)


async def test_requests_with_a_known_key_ask_the_store_once(keys: ApiKeys, records: Records) -> None:
    """A hundred requests at once share one answer, and those after them need none."""
    key = records.issue()
    await asyncio.gather(*(keys.principal(key) for _ in range(100)))
    await keys.principal(key)
    assert len(records.asked) == 1


async def test_one_who_hangs_up_takes_no_answer_from_others(keys: ApiKeys, records: Records) -> None:
    """Other requests that wait for the same lookup still get its answer."""
    key = records.issue()
    first = asyncio.create_task(keys.principal(key))
    second = asyncio.create_task(keys.principal(key))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).tenant == "default"


async def test_while_the_store_is_down_nobody_is_let_in(keys: ApiKeys, records: Records, clock: list[float]) -> None:
    """Not even one that was valid a moment ago; and when the store is back, everything works."""
    key = records.issue()
    await keys.principal(key)
    records.down = True
    clock[0] += api_keys.REMEMBERED + 1
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await keys.principal(key)
    records.down = False
    await keys.principal(key)


async def test_a_flood_of_made_up_keys_asks_the_store_so_often_and_no_more(
    keys: ApiKeys, records: Records, clock: list[float]
) -> None:
    """A hundred times a second; known keys are served all the while, and what is remembered stays bounded."""
    good = records.issue()
    await keys.principal(good)
    refused = 0
    for _ in range(5 * api_keys.STRANGERS_A_SECOND):
        try:
            await keys.principal(new_key()[1])
        except TooManyRequests:
            refused += 1
        except Unauthenticated:
            pass
    assert len(records.asked) <= api_keys.STRANGERS_A_SECOND
    assert refused >= 4 * api_keys.STRANGERS_A_SECOND
    clock[0] += 0.5
    await keys.principal(good)
    clock[0] += api_keys.REMEMBERED
    await keys.principal(good)


async def test_what_is_remembered_is_bounded(keys: ApiKeys, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown ids cannot push a good key out of the cache."""
    monkeypatch.setattr(api_keys, "MOST_REMEMBERED", 10)
    monkeypatch.setattr(api_keys, "STRANGERS_A_SECOND", 10**6)
    good = records.issue()
    await keys.principal(good)
    for _ in range(50):
        with pytest.raises(Unauthenticated):
            await keys.principal(new_key()[1])
    assert len(keys._unknown) == 10
    asked = len(records.asked)
    await keys.principal(good)
    assert len(records.asked) == asked


def test_an_unknown_id_is_compared_like_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `hmac.compare_digest`, on digests of the same length, whether there is a record or not."""
    compared: list[tuple[str, str]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("sessions.gateway.api_key.hmac.compare_digest", compare)
    key_id, key = new_key()
    record = ApiKeyRecord(id=key_id, tenant="t", rights=(), digest=digest_of(key), created_ms=1)
    assert is_key(key, record)
    assert not is_key(key, None)
    assert [len(text) for pair in compared for text in pair] == [64] * 4
    assert api_key._NOBODY in compared[1]


async def test_uses_are_written_together_and_later() -> None:
    """The newest of each key, in one write for many requests; a store that is down loses nothing."""
    written: list[dict[str, int]] = []

    async def write(times: dict[str, int]) -> None:
        written.append(times)
        if len(written) == 1:
            raise StoreUnavailable

    use = LastUse(write, every=0.0)
    for _ in range(2):
        for key_id in ("a", "b", "a"):
            use.note(key_id)
        assert use._writing is not None
        await use._writing
    assert [set(times) for times in written] == [{"a", "b"}] * 2
