"""Pages of a list of sessions, when a tenant has a million: of many users, and of one; on a cluster, too.

`python -m benchmarks --only lists` runs only this. The indexes and the sessions' records are written directly, as the
scripts leave them: a million turns would take an hour.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.producers import latencies, quantile
from benchmarks.report import Row
from benchmarks.rig import Rig, metered
from benchmarks.scale import ProgressCallback, Scale
from broker_config.redis_clients import sync_store
from broker_config.settings import Settings
from sessions import Session
from sessions.client.per_process import get_client
from sessions.store.keys import INDEXED, partition_key, partition_of
from tests.support.servers import three_primaries

_TARGET_MS: Final = 10
_PAGE: Final = 50
_AT_ONCE: Final = 2000
_OF_EACH_USER: Final = 100
_BIRTH: Final = 1_790_000_000_000
_numbers = count()

# As `list_session` in lib/session.lua, for many sessions of one partition at once.
_LOAD: Final = """
local P, tenant = KEYS[1], ARGV[1]
for i = 2, #ARGV, 3 do
  local name, user, used = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  redis.call('HSET', P .. ':' .. tenant .. ':' .. name .. ':meta', 'created', used - 1000, 'used', used, 'owner', user,
    'queue', 'turns', 'open', 0, 'turns', 3, 'messages', 6, 'requests', 3, 'input_tokens', 412, 'output_tokens', 187,
    'title', 'Where should I go in May, and what may it cost?')
  for _, index in ipairs({ tenant, tenant .. '~' .. user }) do
    redis.call('ZADD', P .. ':used~' .. index, used, name)
    redis.call('ZADD', P .. ':made~' .. index, used - 1000, name)
  end
end
"""


def session_lists(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """A page of one user's list; of users with few sessions, and of one who has all of them."""
    rows = []
    rig.redis.config_set("appendonly", "no")  # only to write the sessions faster: pages are only read
    for users, whose in ((scale.sessions // _OF_EACH_USER, "100 of each user"), (1, "all of one user")):
        tenant = f"bench{next(_numbers)}"
        progress(f"{scale.sessions:,} sessions, {whose}")
        before = rig.redis.info("memory")["used_memory"]
        _load(rig.redis, rig.settings, tenant, scale.sessions, users)
        grown = rig.redis.info("memory")["used_memory"] - before
        rows += _rows(rig, rig.settings, tenant, users, scale, f"{scale.sessions:,} sessions, {whose}")
        rows.append(Row("... bytes of the store for each session", grown / scale.sessions, means="record and indexes"))
        rig.redis.execute_command("FLUSHDB", "SYNC")  # so that the next figure counts only its own sessions
    rig.redis.config_set("appendonly", "yes")
    return rows + _on_a_cluster(rig, scale, progress)


def _on_a_cluster(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    progress(f"{scale.sessions:,} sessions of one user on a cluster of three servers")
    with tempfile.TemporaryDirectory(dir=rig.folder) as folder, three_primaries(Path(folder)) as nodes:
        settings = Settings(redis_url=nodes[0].url, redis_cluster=True, broker_url=rig.url)  # type: ignore[call-arg]
        for node in nodes:
            with node.client() as plain:
                plain.config_set("appendonly", "no")
        store = sync_store(settings)
        _load(store, settings, "bench", scale.sessions, 1)
        store.close()
        rows = _rows(rig, settings, "bench", 1, scale, f"{scale.sessions:,} sessions of one user, cluster of three")
        client = get_client(settings)
        client.portal.call(client.aclose())
        return rows


def _load(store: Any, settings: Settings, tenant: str, sessions: int, users: int) -> None:
    """Write the sessions: one script call for some of each partition at a time."""
    store.set(INDEXED, 1)
    script, waiting = store.register_script(_LOAD), dict[int, list[Any]]()
    for number in range(sessions):
        name = f"chat-{number:08}"
        partition = partition_of(tenant, name, settings.partitions)
        batch = waiting.setdefault(partition, [])
        batch += (name, f"user-{number % users}", _BIRTH + number * 7919 % (sessions * 60))
        if len(batch) >= 3 * _AT_ONCE:
            script(keys=[partition_key(partition)], args=[tenant, *waiting.pop(partition)])
    for partition, batch in waiting.items():
        script(keys=[partition_key(partition)], args=[tenant, *batch])


def _rows(rig: Rig, settings: Settings, tenant: str, users: int, scale: Scale, what: str) -> list[Row]:
    where: dict[str, Any] = {"tenant": tenant, "settings": settings}

    def first(number: int) -> None:
        assert len(Session.list(f"user-{number * 31 % users}", limit=_PAGE, **where)) == _PAGE

    first(0)  # connects
    with metered(rig, None) as meter:
        taken = latencies(scale.lists, first)
    p50, p99 = (quantile(taken, share) * 1000 for share in (0.5, 0.99))
    rows = [
        Row(f"{what}, a page of {_PAGE}, p50, ms", p50, means="`Session.list(user)`"),
        Row("... p99, ms", p99, target=f"less than {_TARGET_MS}", met=p99 < _TARGET_MS),
        Row("... CPU of the client, ms", meter.client / scale.lists * 1000),
    ]
    if users > 1:
        return rows
    reader, process = _following(where), psutil.Process()
    next(reader)
    before = process.memory_info().rss
    deep = latencies(scale.lists - 1, lambda _: next(reader))
    grown = max(process.memory_info().rss - before, 1)
    return [
        *rows,
        Row("... following pages, p50, ms", quantile(deep, 0.5) * 1000, means="by cursor, one after the other"),
        Row("... following pages, p99, ms", quantile(deep, 0.99) * 1000),
        Row("... what they add to the client, MB", grown / 1e6, means=f"{scale.lists * _PAGE:,} sessions were read"),
    ]


def _following(where: dict[str, Any]) -> Iterator[None]:
    cursor = None
    while True:
        page = Session.list("user-0", limit=_PAGE, cursor=cursor, **where)
        cursor = page.cursor
        yield
