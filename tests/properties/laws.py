"""The promises as laws over what is stored: on one moment, and from one moment to the next. They know no model."""

from __future__ import annotations

from collections.abc import Sequence

from tests.properties.pictures import FINAL, LEASE
from tests.properties.virtual_store import NEVER, Snapshot, StoredSession, StoredTurn

PERMANENT = {"fence", "wakeups", "expiring"}
INDEXES = ("used~", "made~", "hidden~")
OF_SESSION = {
    *("meta", "history", "turns", "agents", "state", "checkpoints"),
    *("memory", "memory:log", "memory:vectors"),
}
LONGEST_LOOK = 5_000  # a session with something due is looked at within this time


def check_moment(seen: Snapshot, accepted: Sequence[str]) -> None:
    """What must hold at every moment; `accepted` are all turns in the order of their acceptance."""
    order = {part: n for n, part in enumerate(accepted)}
    for name, session in seen.sessions.items():
        _history_is_in_order(session, order)
        _one_holder(name, session)
        _open_work_does_not_expire(name, session)
        _all_else_expires(name, session)
        _records_are_found(name, session)
        for part, turn in session.turns.items():
            _stream_is_sound(part, turn)
        _is_looked_at(name, session, seen)
    for name in seen.wakeups:
        assert seen.sessions[name].mailbox, f"P9: {name} is in wakeups with an empty mailbox"
    for name, expires in seen.expires.items():
        permanent = name in PERMANENT or name.startswith(INDEXES)
        assert permanent or expires != NEVER, f"P9: {name} of the partition never expires"
    _lists_are_right(seen)


def _lists_are_right(seen: Snapshot) -> None:
    """Each session is in the lists of its tenant and its owner; what expired is in them only until a rescuer looks."""
    expiring = seen.partition.get("expiring", {})
    expected: dict[str, dict[str, float]] = {}
    for name, session in seen.sessions.items():
        tenant, own = name.split(":")
        if "created" not in session.meta or "~" in own:
            continue
        owner = session.meta.get("owner")
        for viewer in ("", owner) if owner else ("",):
            index = f"{tenant}~{viewer}" if viewer else tenant
            expected.setdefault(f"used~{index}", {})[own] = float(session.meta["used"])
            expected.setdefault(f"made~{index}", {})[own] = float(session.meta["created"])
            due, expires = expiring.get(f"{name}~{viewer}"), session.expires["meta"]
            assert (due or NEVER) == expires, f"P9: {name} expires at {expires}, and leaves {index} at {due}"
    for index, wanted in expected.items():
        found = seen.partition.get(index, {})
        assert wanted.items() <= found.items(), f"{index} has {found}, and lacks some of {wanted}"
    for index, found in seen.partition.items():
        if index.startswith(INDEXES):
            _, tenant, *user = index.split("~")
            for own in found.keys() - expected.get(index, {}).keys():
                due = expiring.get(f"{tenant}:{own}~{''.join(user)}")
                assert 0 < (due or 0) <= seen.now, f"P9: {own} stays in {index} for ever"


def _history_is_in_order(session: StoredSession, order: dict[str, int]) -> None:
    places = [order[part] for part in session.history]
    assert places == sorted(set(places)), f"P1/P3: history {session.history} is out of order, or has a turn twice"
    open_places = [order[part] for part in session.mailbox]
    assert open_places == sorted(set(open_places)), f"P1: mailbox {session.mailbox} is not in order of acceptance"


def _one_holder(name: str, session: StoredSession) -> None:
    running = [part for part, turn in session.turns.items() if turn.status == "running"]
    assert len(running) <= 1, f"P1: {running} of {name} run at once"
    lease = session.keys.get("lease")
    if lease is not None:
        assert running == session.mailbox[:1], f"P1: a lease is held for {running}, the head is another"
        assert (session.turns[running[0]].record or {})["owner"] == lease, f"P1: two owners of {running[0]}"
        assert session.expires["lease"] != NEVER, f"P2: the lease of {name} never ends"


def _open_work_does_not_expire(name: str, session: StoredSession) -> None:
    is_open = [part for part, turn in session.turns.items() if turn.status not in FINAL]
    assert sorted(is_open) == sorted(session.mailbox), f"P2: open turns {is_open}, mailbox {session.mailbox} of {name}"
    assert int(session.meta.get("open", 0)) == len(session.mailbox), f"R3: open counter of {name}"
    if not is_open:
        return
    for key in OF_SESSION & session.expires.keys() | {"mailbox"}:
        assert session.expires[key] == NEVER, f"R3: {name}:{key} expires while a turn is open"
    for part in is_open:
        turn = session.turns[part]
        assert all(at == NEVER for at in turn.expires.values()), f"R3: open turn {part} expires: {turn.expires}"
        idem = (turn.record or {}).get("idem")
        assert not idem or session.expires[f"idem:{idem}"] == NEVER, f"R3: idempotency key of open turn {part} expires"


def _all_else_expires(name: str, session: StoredSession) -> None:
    for part, turn in session.turns.items():
        if turn.status in FINAL:
            assert NEVER not in turn.expires.values(), f"P9: ended turn {part} leaves {turn.expires} for ever"
            assert turn.journal is None or turn.status == "dead_lettered", f"P9: ended turn {part} keeps its journal"
    open_idem = {f"idem:{(session.turns[part].record or {}).get('idem')}" for part in session.mailbox}
    kept = OF_SESSION if session.mailbox or int(session.meta.get("ttl", 0)) == 0 else set()
    for key, expires in session.expires.items():
        permanent = key in kept or key in open_idem or (key == "mailbox" and session.mailbox)
        assert permanent or expires != NEVER, f"P9: {name}:{key} never expires"


def _records_are_found(name: str, session: StoredSession) -> None:
    missing = session.turns.keys() - session.keys.get("turns", {}).keys()
    assert not missing, f"P9: deleting {name} would leave {missing}"


def _stream_is_sound(part: str, turn: StoredTurn) -> None:
    assert turn.record is not None, f"P9: turn {part} has keys, but no record"
    kinds = [fields["type"] for _, fields in turn.events or ()]
    assert kinds.count("ended") == (turn.status in FINAL), f"P5: {part} is {turn.status}, its stream {kinds}"
    assert "ended" not in kinds[:-1], f"P5: events of {part} after its end: {kinds}"
    steps = [fields["data"] for _, fields in turn.events or () if fields["type"] == "tool_call"]
    assert len(steps) == len(set(steps)), f"P5: a step of {part} is in its stream twice"
    counted = sum(field.startswith("crash:") for field in turn.record)
    assert counted == int(turn.record.get("crashes", 0)), (
        f"R8: {part} counts {turn.record.get('crashes')} crashes, names {counted}"
    )


def _is_looked_at(name: str, session: StoredSession, seen: Snapshot) -> None:
    if not session.mailbox:
        return
    assert name in seen.wakeups, f"P2: {name} has open turns and is not in wakeups"
    head = session.turns[session.mailbox[0]].record or {}
    pause = int(head.get("not_before", 0))
    if "lease" in session.keys:
        latest = session.expires["lease"]
    else:
        latest = pause if pause > seen.now else seen.now + LONGEST_LOOK
    assert seen.wakeups[name] <= latest, f"P6: {name} is looked at {seen.wakeups[name] - latest} ms too late"
    assert latest <= seen.now + LEASE or pause > seen.now


def check_step(before: Snapshot, after: Snapshot, deleted: str | None) -> None:
    """What must hold from one moment to the next; `deleted` is the session that was deleted in between."""
    assert after.fence >= before.fence, "P3: the fencing counter went back"
    for name, old in before.sessions.items():
        new = after.sessions.get(name, StoredSession())
        if name == deleted:
            assert name not in after.sessions, f"P9: deleting {name} left {new}"
            continue
        if new.meta:
            assert new.history[: len(old.history)] == old.history, f"P3: history of {name} changed"
        for part, turn in old.turns.items():
            _turn_went_on(part, turn, new.turns.get(part), after.now)


def _turn_went_on(part: str, old: StoredTurn, new: StoredTurn | None, now: int) -> None:
    if new is None:
        assert NEVER < old.expires["record"] <= now, f"P2: turn {part} is gone"
        return
    if old.status in FINAL:
        assert (new.record, new.events) == (old.record, old.events), f"P3: ended turn {part} changed"
        return
    seen = old.events or []
    assert (new.events or [])[: len(seen)] == seen, f"P5: what a client has read of {part} changed"
    if new.status not in FINAL | {""} or new.status == "dead_lettered":
        kept = new.journal or {}
        assert all(kept.get(step) == value for step, value in (old.journal or {}).items()), f"P4: {part} lost a step"
