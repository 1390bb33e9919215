"""When schedules are due, against a calendar that is gone through by the minute, around each change of the clocks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from sessions.errors import BadRequest
from sessions.protocol.cron import LATE_MS, Cron, Decision, Missed, decide, zone_of

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# Noon of days on which clocks change: by an hour, by half an hour, by two, at midnight, and a day that was left out.
CHANGES = {
    "Europe/Berlin": ((2026, 3, 29), (2026, 10, 25)),
    "America/New_York": ((2026, 3, 8), (2026, 11, 1)),
    "Australia/Lord_Howe": ((2026, 4, 5), (2026, 10, 4)),
    "Antarctica/Troll": ((2026, 3, 29), (2026, 10, 25)),
    "America/Havana": ((2026, 3, 8), (2026, 11, 1)),
    "Africa/Cairo": ((2026, 4, 24), (2026, 10, 29)),
    "Pacific/Apia": ((2011, 12, 30),),
    "Asia/Kathmandu": ((2026, 3, 8),),
    "UTC": ((2026, 3, 29),),
}


@dataclass(frozen=True)
class Field:
    """A field of an expression, and the numbers that it means."""

    text: str
    numbers: frozenset[int]


def fields(top: int) -> st.SearchStrategy[Field]:
    everything = st.just(Field("*", frozenset(range(top + 1))))
    steps = st.integers(2, top).map(lambda n: Field(f"*/{n}", frozenset(range(0, top + 1, n))))
    lists = st.frozensets(st.integers(0, top), min_size=1, max_size=3).map(
        lambda some: Field(",".join(map(str, sorted(some))), some)
    )
    ranges = st.tuples(st.integers(0, top), st.integers(0, 5)).map(
        lambda pair: Field(f"{pair[0]}-{min(top, sum(pair))}", frozenset(range(pair[0], min(top, sum(pair)) + 1)))
    )
    return st.one_of(everything, steps, lists, ranges)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, datetime, Field, Field, Field]:
    """A zone, a moment near a change of its clocks, and an expression's minutes, hours and days of the week."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    noon = datetime(*draw(st.sampled_from(CHANGES[zone])), 12, tzinfo=UTC)
    moment = noon + timedelta(seconds=draw(st.integers(-30 * 3600, 18 * 3600)))
    hours = fields(23) | fields(4).filter(lambda field: field.text[0] != "*")  # clocks change at night
    days = fields(6) | st.just(Field("*", frozenset(range(7))))
    return zone, moment, draw(fields(59)), draw(hours), draw(days)


def calendar(zone: tzinfo, minutes: Field, hours: Field, days: Field, start: datetime) -> list[datetime]:
    """The ticks in two days, by what the documents say."""

    def matches(local: datetime) -> bool:
        weekday = (local.weekday() + 1) % 7
        return local.minute in minutes.numbers and local.hour in hours.numbers and weekday in days.numbers

    end, found = start + 48 * HOUR, set[datetime]()
    if minutes.text.startswith("*") or hours.text.startswith("*"):
        at = start.replace(second=0)
        while at < end:
            if matches(at.astimezone(zone)):
                found.add(at)
            at += MINUTE
    else:
        local = (start - 26 * HOUR).astimezone(zone).replace(tzinfo=None, second=0, fold=0)
        for _ in range(100 * 60):
            if matches(local):
                found.add(first_of(local, zone))
            local += MINUTE
    return sorted(at for at in found if start < at < end)


def first_of(local: datetime, zone: tzinfo) -> datetime:
    """The moment at which clocks show this time for the first time, or the first one after it that they show."""
    while (at := local.replace(tzinfo=zone).astimezone(UTC)).astimezone(zone).replace(tzinfo=None, fold=0) != local:
        local += MINUTE
    return at


def ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000


EVERY = Field("*", frozenset(range(7)))


@settings(deadline=None, derandomize=True, max_examples=150, phases=[Phase.explicit, Phase.generate])
@given(cases())
@example(("Australia/Lord_Howe", datetime(2026, 4, 4, 13, tzinfo=UTC), Field("0", frozenset({0})),
          Field("*/2", frozenset(range(0, 24, 2))), EVERY))  # fmt: skip
@example(("Europe/Berlin", datetime(2026, 10, 25, 1, 10, tzinfo=UTC), Field("30", frozenset({30})),
          Field("2", frozenset({2})), EVERY))  # fmt: skip
def test_each_local_tick_is_once(case: tuple[str, datetime, Field, Field, Field]) -> None:
    """From any moment on: every tick of the calendar, in order, once."""
    zone, start, minutes, hours, days = case
    cron = Cron(f"{minutes.text} {hours.text} * * {days.text}", zone)
    expected = [ms(at) for at in calendar(zone_of(zone), minutes, hours, days, start)][:300]
    assert cron.runs(ms(start), len(expected)) == expected
    if len(expected) < 300:
        following = cron.after(expected[-1] if expected else ms(start))
        assert following is None or following >= ms(start + 48 * HOUR)


def shown(cron: Cron, since: str, count: int) -> list[str]:
    zone = zone_of(cron.timezone)
    ticks = cron.runs(ms(datetime.fromisoformat(since)), count)
    return [datetime.fromtimestamp(tick / 1000, zone).isoformat(timespec="minutes") for tick in ticks]


def test_as_the_documents_say() -> None:
    """2:30 in the gap is at 3:00, in the fold at the first 2:30; every half hour goes on through both."""
    at = Cron("30 2 * * *", "Europe/Berlin")
    assert shown(at, "2026-03-28T12:00+01:00", 2) == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]
    assert shown(at, "2026-10-24T12:00+02:00", 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    half = Cron("*/30 * * * *", "Europe/Berlin")
    assert shown(half, "2026-03-29T01:15+01:00", 2) == ["2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00"]
    assert shown(half, "2026-10-25T02:15+02:00", 3) == [
        "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00",
    ]  # fmt: skip
    assert shown(Cron("0 9 * * 1-5", "America/New_York"), "2026-11-27T12:00-05:00", 1) == ["2026-11-30T09:00-05:00"]


@pytest.mark.parametrize(
    ("expression", "zone", "says"),
    [
        ("0 9 * *", "UTC", "4 fields"),
        ("0 0 9 * * *", "UTC", "6 fields"),
        ("60 * * * *", "UTC", "Bad minute"),
        ("*/0 * * * *", "UTC", "Bad minute"),
        ("0 0 * * 1#2/2", "UTC", "not a cron expression"),
        ("0 0 30 2 *", "UTC", "Bad day-of-month"),
        ("@daily", "UTC", "1 fields"),
        ("", "UTC", "use an expression"),
        ("0 " * 500, "UTC", "use an expression"),
        (None, "UTC", "use an expression"),
        ("0 9 * * *", "Mars/Olympus", "is not known"),
        ("0 9 * * *", "../../etc/passwd", "is not known"),
        ("0 9 * * *", "\0", "is not known"),
        ("0 9 * * *", "Europe", "is not known"),
        ("0 9 * * *", None, "use a name"),
    ],
)
def test_what_is_no_schedule_is_refused(expression: object, zone: object, says: str) -> None:
    """The error says which part, and how it should be."""
    with pytest.raises(BadRequest, match=says):
        Cron.checked(expression, zone, 0)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 9 * * 1-5", "0 0 1 * *"]),
    st.sampled_from(sorted(CHANGES)), st.sampled_from(list(Missed)),
    st.integers(0, 4 * 365 * 86400), st.sampled_from([0, 1, 59, 60, 61, 3600, 86400, 40 * 86400, 500 * 86400]),
)  # fmt: skip
def test_what_has_passed_is_run_or_missed(expression: str, zone: str, missed: Missed, begin: int, later: int) -> None:
    """Every tick until now is counted once, and the next one is the first after now."""
    cron = Cron(expression, zone)
    due = cron.after((1_700_000_000 + begin) * 1000)
    assert due is not None
    now = due + later * 1000
    decision = decide(cron, missed, due, now)
    assert decision.next_ms == cron.after(now)
    ticks = [due, *cron.runs(due, 1001)]
    passed = [tick for tick in ticks if tick <= now]
    newest = decision.run_ms if decision.run_ms is not None else passed[-1]
    if len(passed) <= 1000:
        late = now - passed[-1] > LATE_MS and missed is Missed.SKIP
        assert decision == Decision(
            None if late else passed[-1], len(passed) - (not late), decision.next_ms
        )  # fmt: skip
    else:
        assert decision.missed in (1000, 1001)
        assert newest <= now
    if decision.run_ms is not None:
        assert cron.after(decision.run_ms) == decision.next_ms, "no tick between the turn's and the next"
