"""The cost of encryption: for one value, and for the store calls of a turn, with and without keys, alternating.

python -m benchmarks.sealing_cost [rounds]
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.rig import Rig
from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.protocol.event import EventType
from sessions.protocol.state_ops import increment_op
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.leases import Ending, LeaseStore
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.submission import Submission
from sessions.store.turns import TurnStore

KEYS = f"k1:{base64.b64encode(bytes(32)).decode()}"
_TURNS = 200
_STEPS = 3
_PLACE = "sf:v1:{208}:default:s-184abe147360:turn:01a218012cdc72f2ab51a0ef0caf2a31:journal"
_REQUEST = TurnRequest(message="hello " * 20, agent="A")
_CONFIG = json.dumps({"name": "A", "instructions": "x" * 300}).encode()
_ENTRY = b'{"v":1}\n' + b"z" * 1500
_EVENT = (EventType.TEXT, b'{"text":"' + b"t" * 200 + b'"}')


def _each(times: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times * 1e6


def values() -> None:
    """Microseconds for one value of several sizes."""
    keyring, bare = KeyRing.of(Settings(encryption_keys=KEYS)), KeyRing({})  # type: ignore[arg-type]
    for size in (200, 2_000, 20_000, 1_000_000):
        value, times = os.urandom(size), 20_000 if size < 100_000 else 200
        sealed = keyring.seal(_PLACE, "model:1", value)
        took = _each(times, partial(keyring.seal, _PLACE, "model:1", value))
        opened = _each(times, partial(keyring.open, _PLACE, "model:1", sealed))
        plain = _each(times, partial(bare.seal, _PLACE, "model:1", value))
        print(f"{size:>9,} bytes: seal {took:6.1f}, open {opened:6.1f}, without keys {plain:.2f} us")


async def turn_calls(settings: Settings, *, adds: bool) -> float:
    """Milliseconds, the median of this many turns of a session: accept, lease, three steps, commit, read the answer."""
    client = async_store(settings)
    scripts = ScriptRunner(client)
    turns, leases = TurnStore(scripts, client, settings), LeaseStore(scripts, settings, "bench")
    keys = SessionKeys.of("default", uuid.uuid4().hex, settings.partitions)
    changes = [increment_op("n", 1, 0)] if adds else []
    ending = Ending(TurnStatus.SUCCEEDED, result=b"y" * 400, history_entry=_ENTRY, messages=2, state_ops=changes)
    took = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        turn = Submission(_REQUEST, queue="turns", timeout=900.0, config=_CONFIG)
        await turns.accept(keys, turn)
        begun = await leases.acquire(keys, uuid.uuid4().hex, last_ok=True)
        assert isinstance(begun, OpenTurn)
        for step in range(_STEPS):
            await leases.record(keys, begun, f"model:{step}", b"m" * 1200, 2 + step, [_EVENT]).done()
        await leases.commit(keys, begun, ending, 2 + _STEPS, go_on=False, last_ok=True)
        await turns.read(keys, turn.part)
        took.append(time.perf_counter() - began)
    await client.aclose()
    return statistics.median(took) * 1000


def main(rounds: int) -> None:
    """Measure, and print."""
    values()
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sessionfleet-bench-") as folder:
        rig = Rig(Path(folder))
        try:
            for _ in range(rounds):
                for name, encryption_keys in (("without keys", None), ("with keys", KEYS)):
                    settings = rig.settings.model_copy(
                        update={"encryption_keys": Settings(encryption_keys=encryption_keys).encryption_keys}  # type: ignore[arg-type]
                    )
                    for what, adds in (("", False), (", incrementing a number in the state", True)):
                        found = asyncio.run(turn_calls(settings, adds=adds))
                        taken.setdefault(f"a turn's calls{what}, {name}", []).append(found)
        finally:
            rig.close()
    for name, each in taken.items():
        print(f"{name}: {min(each):.2f} ms (median of {_TURNS}; best of {rounds}, worst {max(each):.2f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
