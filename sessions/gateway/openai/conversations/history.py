"""The history of a session as items: read, add and delete them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sessions.adapters.derived import new_entry, title_of
from sessions.adapters.library_session import LibrarySession
from sessions.api.session import Session
from sessions.errors import BadRequest, NotFound
from sessions.gateway.narration import arguments_text
from sessions.gateway.openai.items import Item
from sessions.gateway.openai.responses.input import content_part
from sessions.protocol.message import parts_of_content
from sessions.store.adapter_store import HistoryChange, SeenHistory
from sessions.store.history import HistoryEntry
from sessions.transfer.conversation import DEFAULT_AGENT
from sessions.transfer.openai_agents import read_item

_ADAPTER: Final = "openai"
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class ItemHistory:
    """The items of one session, which exists."""

    session: Session

    async def page(self, limit: int, order: Literal["asc", "desc"], after: str | None) -> tuple[list[Item], bool]:
        """Some items, and whether there are more.

        Raises:
            BadRequest: no item has the id `after`.
        """
        found: list[Item] = []
        skipping = after is not None
        async for entry in self._entries(order):
            for item in items_of_entry(entry) if order == "asc" else reversed(items_of_entry(entry)):
                if skipping:
                    skipping = item["id"] != after
                elif len(found) == limit:
                    return found, True
                else:
                    found.append(item)
        if skipping:
            raise BadRequest(f"there is no item {str(after)[:80]!r} here", param="after")
        return found, False

    async def item(self, item_id: str) -> tuple[Item, HistoryEntry]:
        """One item, and the entry that it belongs to.

        Raises:
            NotFound: there is none.
        """
        async for entry in self._entries("desc"):
            if f"_{entry.turn}" in item_id:
                for item in items_of_entry(entry):
                    if item["id"] == item_id:
                        return item, entry
        raise NotFound(f"Item with id {item_id[:80]!r} not found.")

    async def add(self, items: Sequence[Item]) -> list[Item]:
        """Add items at the end, all or none; returns them as they are kept.

        Raises:
            SessionOwnerError, StoreFull, BackendError.
        """
        entries = [replace(_entry(group), native=b"", adapter="") for group in _exchanges(items)]

        def decide(seen: SeenHistory, _: bool) -> HistoryChange:
            sender = self.session.user_id if seen.owner not in (None, self.session.user_id) else None
            sent = [replace(entry, sender=sender) for entry in entries]
            return HistoryChange(seen.revision, sent, title=title_of(entries[0]))

        await self._stored.change(decide)
        return [item for entry in entries for item in items_of_entry(entry)]

    async def delete(self, item_id: str) -> None:
        """Delete an item that is alone in its entry.

        Raises:
            NotFound: there is none. BadRequest: it belongs to a turn with others.
        """
        _, entry = await self.item(item_id)
        if len(items_of_entry(entry)) > 1:
            raise BadRequest(
                "this item belongs to a turn with others, which cannot do without it: delete the response",
                param="item_id",
                code="unsupported_value",
            )
        await self.session.adelete_turn(self.session.keys.public_id(entry.turn))

    @property
    def _stored(self) -> LibrarySession:
        return LibrarySession(self.session, _ADAPTER)

    async def _entries(self, order: Literal["asc", "desc"]) -> AsyncIterator[HistoryEntry]:
        length = (await self._stored.read(-1)).length
        for done in range(0, length, _AT_ONCE):
            start = done if order == "asc" else max(0, length - done - _AT_ONCE)
            stop = (start + _AT_ONCE if order == "asc" else length - done) - 1
            entries = (await self._stored.read(start, stop)).entries
            for entry in entries if order == "asc" else reversed(entries):
                yield entry


def items_of_entry(entry: HistoryEntry) -> list[Item]:
    """The messages, calls and results of one turn, with ids that name the turn and the place in it."""
    parts = [part for message in json.loads(entry.messages) for part in message["parts"]]
    made = ((place, _item(part, entry)) for place, part in enumerate(parts))
    return [{**item, "id": f"{item['id']}_{entry.turn}{place:04x}"} for place, item in made if item is not None]


def _item(part: dict[str, Any], entry: HistoryEntry) -> Item | None:
    match part["part_kind"]:
        case "user-prompt":
            content = [content_part(each) for each in parts_of_content(part["content"])]
            return _message("user", content, "completed")
        case "system-prompt":
            return _message("developer", [{"type": "input_text", "text": part["content"]}], "completed")
        case "text" if part["content"]:
            text = {"type": "output_text", "text": part["content"], "annotations": [], "logprobs": []}
            return _message("assistant", [text], "incomplete" if entry.incomplete else "completed")
        case "thinking" if part["content"]:
            content = [{"type": "reasoning_text", "text": part["content"]}]
            return {"id": "rs", "type": "reasoning", "status": "completed", "summary": [], "content": content}
        case "tool-call":
            call = {"call_id": part["tool_call_id"], "name": part["tool_name"]}
            arguments = arguments_text(part.get("args") or {})
            return {"id": "fc", "type": "function_call", **call, "arguments": arguments, "status": "completed"}
        case "tool-return":
            output = part["content"] if isinstance(part["content"], str) else json.dumps(part["content"])
            call = {"call_id": part["tool_call_id"], "output": output}
            return {"id": "fco", "type": "function_call_output", **call, "status": "completed"}
        case _:
            return None


def _message(role: str, content: list[dict[str, Any]], status: str) -> Item:
    return {"id": "msg", "type": "message", "role": role, "status": status, "content": content}


def _entry(items: list[Item]) -> HistoryEntry:
    return new_entry(_ADAPTER, items, read_item, agent=DEFAULT_AGENT)


def _exchanges(items: Sequence[Item]) -> list[list[Item]]:
    """Groups of items: each begins with what the user said, and has what came of it."""
    groups: list[list[Item]] = [[]]
    for item in items:
        begins = item.get("role") in ("user", "system", "developer")
        if begins and groups[-1] and groups[-1][-1].get("role") not in ("user", "system", "developer"):
            groups.append([])
        groups[-1].append(item)
    return groups
