"""The session of the OpenAI Agents SDK, stored as a session of Sessionfleet.

    session = FleetSession("conversation-17", user_id="ada")
    result = await Runner.run(agent, "Hello", session=session)

Items are stored as they are, so `get_items` returns exactly what `add_items` was given. Next to them are the same
messages in the format of the rest of Sessionfleet: `Session("conversation-17").history()` shows them, and a worker can
continue the conversation (`docs/adapters.md` says what is not carried over).
"""

from __future__ import annotations

import json
from typing import Any, Final, Unpack, cast

try:
    from agents.items import TResponseInputItem
    from agents.memory.session import SessionABC
    from agents.memory.session_settings import SessionSettings, coerce_session_settings, resolve_session_limit
except ImportError as error:
    from sessions.errors import MissingExtra

    raise MissingExtra("openai-agents is not installed: run `pip install 'sessionfleet[openai-agents]'`") from error

from sessions.adapters.derived import Native, new_entry, title_of
from sessions.adapters.library_session import LibrarySession, SessionOptions
from sessions.api.session import Session
from sessions.store.adapter_store import HistoryChange, SeenHistory
from sessions.store.history import HistoryEntry
from sessions.transfer.conversation import DEFAULT_AGENT
from sessions.transfer.openai_agents import read_item

ADAPTER: Final = "openai-agents"


class FleetSession(SessionABC):
    """A conversation of the OpenAI Agents SDK that any process can continue.

    Args:
        session_id: of the session, as in `sessions.Session`.
        user_id: who uses it. The first user owns it; another one needs a share of it. None for a trusted process.
        agent: the name under which answers are in the history, and with which `Session.chat` continues them.
        session_settings: `SessionSettings(limit=...)`, as for the SDK's own sessions.
        options: `tenant`, `queue`, `ttl` and `settings`, as in `sessions.Session`.

    Raises:
        InvalidSessionId, BadRequest: an argument cannot be used.
    """

    def __init__(
        self,
        session_id: str,
        user_id: str | None = None,
        *,
        agent: str = DEFAULT_AGENT,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        self.session_id = session_id
        self.session_settings = coerce_session_settings({} if session_settings is None else session_settings)
        self.session = Session(session_id, user_id, **options)
        self._stored = LibrarySession(self.session, ADAPTER)
        self._agent = agent

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The items of the conversation, or the last `limit` of them, oldest first.

        Raises:
            SessionOwnerError, BackendError: see `sessions.errors`.
        """
        limit = resolve_session_limit(limit, self.session_settings)
        if limit is not None and limit <= 0:
            return []
        seen = await self._stored.read(0 if limit is None else -limit)
        items = [item for entry in seen.entries for item in items_of(entry)]
        if limit is not None and len(items) < limit and len(seen.entries) < seen.length:
            seen = await self._stored.read()  # some entries have nothing that is an item
            items = [item for entry in seen.entries for item in items_of(entry)]
        return cast(list[TResponseInputItem], items if limit is None else items[-limit:])

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items, all or none. The items of one call stay together, whoever else appends.

        Raises:
            SessionOwnerError: the session belongs to another user, who has not shared it for writing.
            StoreFull, BackendError: see `sessions.errors`.
        """
        if not items:
            return
        first, *later = _exchanges(json.loads(json.dumps(items)))

        def decide(seen: SeenHistory, may_extend: bool) -> HistoryChange:
            last = seen.last if may_extend and _continues(seen.last, first) else None
            sender = self._sender(seen)
            entries = [
                self._entry((items_of(last) if last else []) + first, last, sender),
                *(self._entry(group, None, sender) for group in later),
            ]
            title = title_of(entries[0])
            if last is None:
                return HistoryChange(seen.revision, entries, title=title)
            return HistoryChange(seen.revision, entries, seen.length - 1, messages_cut=last.count, title=title)

        await self._stored.change(decide)

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the last item and return it; None if there is none.

        Raises:
            SessionBusy: an open turn has seen it. SessionOwnerError, BackendError: as `add_items`.
        """
        popped: list[Native] = []

        def decide(seen: SeenHistory, _: bool) -> HistoryChange | None:
            popped.clear()
            if seen.last is None:
                return None
            kept = items_of(seen.last)
            popped.extend(kept[-1:])
            entries = [self._entry(kept[:-1], seen.last, None)] if kept[:-1] else []
            return HistoryChange(seen.revision, entries, seen.length - 1, messages_cut=seen.last.count)

        while True:
            seen, _ = await self._stored.change(decide)
            if popped:
                return cast(TResponseInputItem, popped[0])
            if seen.last is None:
                return None

    async def clear_session(self) -> None:
        """Remove all items, with their branches and the records of turns. State, files and sharing stay.

        `session.session.delete()` deletes everything.

        Raises:
            SessionBusy: an open turn has seen them. SessionOwnerError, BackendError: as `add_items`.
        """
        await self._stored.clear()

    def _sender(self, seen: SeenHistory) -> str | None:
        user = self.session.user_id
        return user if seen.owner not in (None, user) else None

    def _entry(self, items: list[Native], extends: HistoryEntry | None, sender: str | None) -> HistoryEntry:
        return new_entry(ADAPTER, items, read_item, agent=self._agent, extends=extends, sender=sender)


# --- items ------------------------------------------------------------------------------------------------


def _exchanges(items: list[Native]) -> list[list[Native]]:
    """Groups of items: each begins with what the user said, and has what came of it. One group is one entry."""
    groups: list[list[Native]] = [[]]
    for item in items:
        if _is_user(item) and groups[-1] and not _is_user(groups[-1][-1]):
            groups.append([])
        groups[-1].append(item)
    return groups


def _continues(last: HistoryEntry | None, group: list[Native]) -> bool:
    """Whether the group belongs to the exchange before it. Only the SDK's own entries are extended."""
    if last is None or last.adapter != ADAPTER:
        return False
    return not _is_user(group[0]) or all(map(_is_user, items_of(last)))


def _is_user(item: Native) -> bool:
    return bool(item.get("role") == "user" and item.get("type", "message") == "message")


def items_of(entry: HistoryEntry) -> list[Native]:
    """The items of an entry: as they were added, or made of what a worker or another library wrote."""
    if entry.adapter == ADAPTER:
        items: list[Native] = json.loads(entry.native)
        return items
    parts = [part for message in json.loads(entry.messages) for part in message["parts"]]
    return [item for part in parts if (item := _item(part)) is not None]


def _item(part: dict[str, Any]) -> Native | None:
    match part["part_kind"]:
        case "user-prompt":
            return {"role": "user", "content": _content(part["content"])}
        case "text" if part["content"]:
            return {"role": "assistant", "content": part["content"]}
        case "tool-call":
            arguments = part.get("args")
            return {
                "type": "function_call",
                "name": part["tool_name"],
                "call_id": part["tool_call_id"],
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments or {}),
            }
        case "tool-return":
            return {
                "type": "function_call_output",
                "call_id": part["tool_call_id"],
                "output": _text(part["content"]),
            }
        case _:  # instructions, thoughts, retries: they are not carried over
            return None


def _content(content: Any) -> str | list[Native]:
    """What the user said. Of files only images with a public address are carried over, others are named."""
    if isinstance(content, str):
        return content
    parts: list[Native] = []
    for item in content:
        if isinstance(item, dict) and item.get("kind") == "image-url" and item["url"].startswith(("http:", "https:")):
            parts.append({"type": "input_image", "image_url": item["url"], "detail": "auto"})
        else:
            parts.append({"type": "input_text", "text": item if isinstance(item, str) else f"[{item.get('kind')}]"})
    return parts


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(item if isinstance(item, str) else json.dumps(item) for item in content)
    return json.dumps(content)
