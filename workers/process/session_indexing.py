"""Adds the sessions of an older version to the indexes by which sessions are listed, once for each deployment.

One worker at a time does it, a page of keys after the other, in the background. How far it has come is in the store, so
that another worker continues if this one ends. Adding a session twice changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import RedisCluster

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError, CorruptRecord, SealError
from sessions.protocol.text import default_title
from sessions.store.deployment import node_infos
from sessions.store.history import HistoryEntry
from sessions.store.history_store import HistoryStore
from sessions.store.keys import INDEXED, INDEXING, SessionKeys
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.session_info import TITLE
from sessions.store.transitions.indexes import index_session

_log = get_logger(__name__)
_RECORD: Final = re.compile(r"sf:v1:\{\d+\}:(?P<ref>[^:~]+:[^:~]+):meta\Z")
_OF_A_RUN: Final = re.compile(r"(team|ask)-[0-9a-f]{32}(-|\Z)")
_PAGE: Final = 500
_PAUSE: Final = 0.01
_AGAIN: Final = 5.0
_CLAIM_MS: Final = 15_000


@dataclass(frozen=True, slots=True)
class _Node:
    """A server of the store. `run` changes when it is started again: a position in its keys is then worth nothing."""

    name: str
    run: str


class SessionIndexing:
    """Builds the indexes of a deployment that was created without them. Runs in every worker; one of them works."""

    def __init__(self, settings: Settings, store: Any, scripts: ScriptRunner, worker_id: str) -> None:
        self._settings = settings
        self._store = store
        self._scripts = scripts
        self._worker_id = worker_id
        self._keyring = KeyRing.of(settings)
        self._history = HistoryStore(scripts, self._keyring)

    async def run(self) -> None:
        """Work until all sessions are in the indexes."""
        while True:
            try:
                if await self._is_done() or (await self._claims() and await self._build()):
                    return
            except BackendError as error:
                _log.warning("sessions_not_indexed", error=str(error))
            except Exception:  # noqa: BLE001 - it tries again, and the worker's turns are not affected
                _log.exception("sessions_not_indexed")
            await asyncio.sleep(_AGAIN)

    async def _is_done(self) -> bool:
        with translated():
            return bool(await self._store.exists(INDEXED))

    async def _claims(self) -> bool:
        """Whether this worker may work, for the next seconds."""
        with translated():
            if await self._store.set(f"{INDEXING}:claim", self._worker_id, nx=True, px=_CLAIM_MS):
                return True
            if await self._store.get(f"{INDEXING}:claim") != self._worker_id.encode():
                return False
            await self._store.set(f"{INDEXING}:claim", self._worker_id, px=_CLAIM_MS)
            return True

    async def _build(self) -> bool:
        """Go through all servers; False when another worker has taken over."""
        _log.info("sessions_indexing")
        count = 0
        for node in await self._nodes():
            async for page in self._pages(node):
                await asyncio.gather(*(self._add(keys) for keys in page))
                count += len(page)
                if not await self._claims():
                    return False
                await asyncio.sleep(_PAUSE)
        with translated():
            await self._store.set(INDEXED, b"1")
            await self._store.delete(INDEXING, f"{INDEXING}:claim")
        _log.info("sessions_indexed", sessions=count)
        return True

    async def _nodes(self) -> list[_Node]:
        with translated():
            infos = await node_infos(self._store, "server")
        return [_Node(name, str(info["run_id"])) for name, info in infos.items()]

    async def _pages(self, node: _Node) -> AsyncIterator[list[SessionKeys]]:
        """The sessions on a server, from where the work ended. A page that was not completed is read again."""
        with translated():
            stored = await self._store.hget(INDEXING, node.run)
        cursor = "0" if stored is None else stored.decode()
        while cursor != "":
            position, names = await self._scan(node, int(cursor))
            yield [keys for name in names if (keys := self._session_of(name)) is not None]
            cursor = str(position) if position else ""
            with translated():
                await self._store.hset(INDEXING, node.run, cursor)

    async def _scan(self, node: _Node, cursor: int) -> tuple[int, list[bytes]]:
        options: dict[str, Any] = {"match": "sf:v1:{*}:*:meta", "count": _PAGE}
        if isinstance(self._store, RedisCluster):
            options["target_nodes"] = self._store.get_node(node_name=node.name)
        with translated():
            reply: Any = await self._store.scan(cursor, **options)
        position, names = reply
        return int(position[node.name] if isinstance(position, dict) else position), names

    def _session_of(self, name: bytes) -> SessionKeys | None:
        record = _RECORD.match(name.decode())
        return None if record is None else SessionKeys.from_ref(record["ref"], self._settings.partitions)

    async def _add(self, keys: SessionKeys) -> None:
        title = b"" if await self._scripts.read("HEXISTS", keys.meta, TITLE) else await self._title(keys)
        hidden = _OF_A_RUN.match(keys.session_id) is not None
        await self._scripts.run(index_session(keys.pair, title=title, hidden=hidden))

    async def _title(self, keys: SessionKeys) -> bytes:
        """The beginning of the session's first message; empty if it cannot be read."""
        try:
            first = await self._history.entries(keys, None, 0, 0)
            text = _first_message(first[0]) if first else ""
        except (CorruptRecord, SealError, ValueError, KeyError, TypeError) as error:
            _log.warning("session_without_title", session=keys.ref, error=repr(error))
            return b""
        return self._keyring.seal(keys.meta, TITLE, default_title(text).encode()) if text else b""


def _first_message(entry: HistoryEntry) -> str:
    parts = [part for message in json.loads(entry.messages) for part in message["parts"]]
    return next((p["content"] for p in parts if p["part_kind"] == "user-prompt" and isinstance(p["content"], str)), "")
