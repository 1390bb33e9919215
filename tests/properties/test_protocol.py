"""The protocol keeps its promises in whatever order things happen to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from sessions.store.script_files import script, script_names
from tests.properties.machine import ProtocolMachine
from tests.properties.virtual_store import Edits, VirtualStore
from tests.support.servers import Server

EXAMPLES = int(os.environ.get("SF_PROPERTY_EXAMPLES", "120"))


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A separate database on the shared server."""
    with redis.Redis(port=server.port, db=9) as client:
        yield client
        client.flushdb()


def _settings(examples: int, *phases: Phase) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        database=None,
        derandomize="SF_PROPERTY_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        phases=phases or (Phase.generate, Phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
    )


def test_no_order_of_events_breaks_a_promise(client: redis.Redis) -> None:
    """P1-P5, P9, R1-R5, R8, R9: clients, workers, crashes, stalls and lost replies in any order."""
    store = VirtualStore(client)
    run_state_machine_as_test(lambda: ProtocolMachine(store), settings=_settings(EXAMPLES))


# Each breaks one thing that a promise rests on: script (or "*"), what stands there, what shall stand there.
_START = "return start(id, value or (token() .. ':' .. nonce), lease_ms, worker, window, now, '0')"
BROKEN: dict[str, Edits] = {
    "commit without looking at the lease": {
        "commit_turn": (
            ("if r[2] ~= lease then return { 'lost' } end", ""),
            ("if r[1] ~= 'running' or redis.call('GET', S .. ':lease') ~= lease then return { 'lost' } end", ""),
        )
    },
    "commit without asking whether the turn has ended": {"commit_turn": (("if FINAL[r[1]] then", "if false then"),)},
    "commit against an accepted cancel": {"commit_turn": (("if r[3] and status", "if false and status"),)},
    "journal without looking at the lease": {
        "record_step": (("if redis.call('GET', S .. ':lease') ~= lease or", "if"), ("or r[2] ~= 'running'", "")),
    },
    "a step is not written down": {"record_step": (("redis.call('HSET', t .. ':journal', field, value)", ""),)},
    "a step's text is not kept": {"record_step": (("last or (token .. '-' .. r[4])", "last or ''"),)},
    "an event is written twice": {"record_step": (("= add_event(turn, token, seq,", "= add_event(turn, token, '*',"),)},
    "a lost worker is not counted": {"*": (("return redis.call('HINCRBY', t, 'crashes', 1)", "return 0"),)},
    "an ended turn forgives": {"forgive_crash": (("if FINAL[r[1]] then", "if false then"),)},
    "a release sent again is not known": {"release_turn": (("'released', lease,", ""),)},
    "the lease is taken from its holder": {"lease_session": (("if held and", "if false and"),)},
    "the fencing token does not grow": {
        "*": (("redis.call('INCR', P .. ':fence')", "redis.call('SETNX', P .. ':fence', 1)"),)
    },
    "an ended turn stays open": {"*": (("redis.call('HINCRBY', S .. ':meta', 'open', -1)", ""),)},
    "the wrong turn loses its place": {
        "*": (("redis.call('LREM', S .. ':mailbox', 1, id)", "redis.call('LPOP', S .. ':mailbox')"),)
    },
    "a use is not in the lists": {"*": (("  set_expiry(now)\n  list_session(now)\n", "  set_expiry(now)\n"),)},
    "what expired stays in the lists": {"rescue_partition": (("  unlist_expired(now, most)\n", ""),)},
    "accept puts the turn in front": {"accept_turn": (("'RPUSH', S .. ':mailbox'", "'LPUSH', S .. ':mailbox'"),)},
    "accept forgets to have the session looked at": {"accept_turn": (("\nreindex(now)\n", "\n"),)},
    "accept sent again accepts twice": {"accept_turn": (("if redis.call('EXISTS', t) == 1 then", "if false then"),)},
    "renew changes nothing": {"renew_lease": (("redis.call('SET', S .. ':lease', lease, 'PX', lease_ms)", ""),)},
    "a lease is taken back from another attempt": {"renew_lease": (("r[1] == lease and", ""),)},
    "a backoff is cut short": {"lease_session": (("return { 'later', r[7] }", _START),)},
    "a deadline does not end the turn": {"lease_session": (("tonumber(r[6]) <= now", "false"),)},
    "an open turn expires": {"accept_turn": (("then keep_all() end", "then end"),)},
    "a record is left for ever": {"*": (("redis.call('PEXPIRE', t, ttl)", ""),)},
    "deleting leaves the history": {"delete_session": (("ipairs(SESSION_KEYS)", "ipairs({ 'meta' })"),)},
    "rescue names a session only once": {
        "rescue_partition": (("'ZADD', P .. ':wakeups', now + pause, member", "'ZREM', P .. ':wakeups', member"),)
    },
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_script_is_found(broken: str, client: redis.Redis) -> None:
    """The machine has teeth: with one line of a script broken, it fails."""
    for name, pairs in BROKEN[broken].items():
        texts = [script(each).text for each in (script_names() if name == "*" else (name,))]
        assert all(any(old in text for text in texts) for old, _ in pairs), "the scripts have changed: adapt BROKEN"
    store = VirtualStore(client, BROKEN[broken])
    with pytest.raises(AssertionError):  # a script that does not even run is another error
        run_state_machine_as_test(lambda: ProtocolMachine(store), settings=_settings(400, Phase.generate))
