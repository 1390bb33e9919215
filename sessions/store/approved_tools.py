"""The tools whose calls need no more approval in a session: somebody approved one of them with `always=True`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from sessions.errors import NotFound, StateConflict
from sessions.protocol.access import refused
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.transitions.records import Updated, approve_tools
from sessions.store.transitions.shared import Missing, OtherOwner

APPROVED_TOOLS: Final = "approved_tools"
"""The field of the session's record: a JSON list, sealed."""
_TRIES: Final = 10


class ApprovedTools:
    """Every method raises `BackendError` if the store did not answer."""

    def __init__(self, scripts: ScriptRunner, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._keyring = keyring

    async def read(self, keys: SessionKeys) -> frozenset[str]:
        """Their names."""
        return self._opened(keys, await self._stored(keys))

    async def add(self, keys: SessionKeys, tool: str, user_id: str | None) -> None:
        """Let calls of a tool run without approval from now on.

        Raises:
            NotFound: there is no such session. SessionOwnerError: the user may not write to it.
            StateConflict: others change the list all the time.
        """
        await self._change(keys, user_id, lambda tools: tools | {tool})

    async def remove(self, keys: SessionKeys, tool: str, user_id: str | None) -> bool:
        """Ask about calls of a tool again; returns whether they ran without approval.

        Raises:
            As `add`.
        """
        found = tool in await self.read(keys)
        if found:
            await self._change(keys, user_id, lambda tools: tools - {tool})
        return found

    async def _change(
        self, keys: SessionKeys, user_id: str | None, change: Callable[[frozenset[str]], frozenset[str]]
    ) -> None:
        for _ in range(_TRIES):
            stored = await self._stored(keys)
            before = self._opened(keys, stored)
            after = change(before)
            if after == before:
                return
            tools = json.dumps(sorted(after)).encode() if after else b""
            sealed = self._keyring.seal(keys.meta, APPROVED_TOOLS, tools) if tools else b""
            match await self._scripts.run(approve_tools((keys.base,), user=user_id, expected=stored, tools=sealed)):
                case Updated():
                    return
                case OtherOwner():
                    raise refused(keys.session_id, user_id)
                case Missing():
                    raise NotFound(f"session {keys.session_id!r}: {NotFound.__doc__}")
        raise StateConflict(f"the approved tools of session {keys.session_id!r} change all the time; try again")

    async def _stored(self, keys: SessionKeys) -> bytes:
        return await self._scripts.read("HGET", keys.meta, APPROVED_TOOLS) or b""

    def _opened(self, keys: SessionKeys, stored: bytes) -> frozenset[str]:
        return frozenset(json.loads(self._keyring.open(keys.meta, APPROVED_TOOLS, stored))) if stored else frozenset()
