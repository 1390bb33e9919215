"""What an agent's tools change of what is remembered: a memory is named by the number with which it is shown.

The number is the end of the memory's id. A model copies eight characters without mistakes, and no two memories of a
scope are likely to share them.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from broker_config.settings import Settings
from sessions.client.arguments.memory import memory_text
from sessions.store.keys import SessionKeys
from sessions.store.memory import MemoryStore
from sessions.store.memory_places import MemoryScope
from sessions.store.memory_record import known_since_ms
from sessions.store.state import session_scope, wide_scope

REMEMBERED_MS: Final = 7 * 86_400_000
_NUMBER: Final = 8
_HEX: Final = re.compile(rf"[0-9a-f]{{{_NUMBER},32}}")


def memory_line(memory: Mapping[str, Any]) -> str:
    """A memory as models see it: its number, the day from which it is known to hold, and its text."""
    day = datetime.fromtimestamp(known_since_ms(memory) / 1000, UTC)
    return f"- [{memory['id'][-_NUMBER:]}] {day:%Y-%m-%d}: {memory['text']}"


class MemoryChanges:
    """Corrects and removes memories of a session and its user. A change with the same key is made once."""

    def __init__(self, settings: Settings, memories: MemoryStore, keys: SessionKeys, user_id: str | None) -> None:
        self._settings = settings
        self._memories = memories
        self._scopes = [session_scope(keys)]
        if user_id is not None:
            self._scopes.insert(0, wide_scope(keys.tenant, user_id, settings.partitions))

    async def correct(self, key: str, number: str, text: str) -> bool:
        """Replace the text of a memory; False if there is none with this number.

        Raises:
            BadRequest: the text is too long. BackendError: the store did not take it.
        """
        memory_text(text, self._settings.memory_text_limit_bytes)
        place = await self._find(number)
        if place is None:
            return False
        changed = await self._memories.change(
            *place,
            lambda memory: memory.changed(time.time_ns() // 1_000_000, text=text),
            operation=_operation(key),
            remembered_ms=REMEMBERED_MS,
        )
        return changed is not None

    async def forget(self, key: str, number: str) -> bool:
        """Remove a memory; False if there is none with this number.

        Raises:
            BackendError: the store did not take it.
        """
        place = await self._find(number)
        if place is None:
            return False
        scope, memory_id = place
        removed = await self._memories.remove(
            scope, [memory_id], operation=_operation(key), remembered_ms=REMEMBERED_MS
        )
        return removed > 0

    async def _find(self, number: str) -> tuple[MemoryScope, str] | None:
        """The one memory with this number. None if there are two: neither may be changed by mistake."""
        wanted = _HEX.search(number.lower())
        if wanted is None:
            return None
        found = [
            (scope, memory_id)
            for scope in self._scopes
            for memory_id in await self._memories.ids(scope)
            if memory_id.endswith(wanted.group())
        ]
        return found[0] if len(found) == 1 else None


def _operation(key: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, key).hex
