"""Google ADK's session service, on sessions of Sessionfleet.

    runner = Runner(app_name="shop", agent=agent, session_service=FleetSessionService())

Events are stored as they are, one entry of the history for each invocation. Next to them are the same messages in the
format of the rest of Sessionfleet: `service.session("shop", "ada", "17").history()` shows them, and a worker can
continue the conversation (`docs/adapters.md` says what is not carried over).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Unpack
from urllib.parse import quote, unquote
from weakref import WeakValueDictionary

try:
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events.event import Event
    from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig, ListSessionsResponse
    from google.adk.sessions.session import Session as AdkSession
    from google.adk.sessions.state import State
except ImportError as error:
    from sessions.errors import MissingExtra

    raise MissingExtra("google-adk is not installed: run `pip install 'sessionfleet[google-adk]'`") from error
try:
    from google.adk.errors._stale_session_error import StaleSessionError
except ImportError:  # where older versions raise a plain ValueError

    class StaleSessionError(ValueError):  # type: ignore[no-redef]
        """The session was changed by another writer since it was read."""


import uuid_utils
from pydantic_core import to_jsonable_python

from sessions.adapters.derived import Native, new_entry, title_of
from sessions.adapters.library_session import LibrarySession, SessionOptions
from sessions.api.session import Session
from sessions.client.per_process import get_client
from sessions.protocol.state_ops import APP, TEMP, USER, StateOp, set_op
from sessions.store.adapter_store import HistoryChange, SeenHistory
from sessions.store.history import HistoryEntry
from sessions.store.state import Effect, wide_scope
from sessions.transfer.conversation import DEFAULT_AGENT
from sessions.transfer.google_adk import read_event

ADAPTER: Final = "google-adk"
_PAGE: Final = 1000


class FleetSessionService(BaseSessionService):
    """Sessions of Google ADK that any process can continue.

    A session of ADK is named by its app, its user and its id; `session()` gives the session of ours with its records,
    which its user owns. Its state is that session's. State of a user (`user:`) and of an app (`app:`) is our state of
    the user and the tenant, with the name of the app after the prefix: `user:shop:currency`.

    Args:
        options: `tenant`, `queue`, `ttl` and `settings`, as in `sessions.Session`.
    """

    def __init__(self, **options: Unpack[SessionOptions]) -> None:
        self._options = options
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def session(self, app_name: str, user_id: str, session_id: str) -> Session:
        """The session in which one of ADK's is stored.

        Raises:
            InvalidSessionId: the three names are too long together.
        """
        return Session(":".join(map(_escaped, (app_name, user_id, session_id.strip()))), user_id, **self._options)

    # --- sessions ---------------------------------------------------------------------------------------

    async def create_session(
        self, *, app_name: str, user_id: str, state: dict[str, Any] | None = None, session_id: str | None = None
    ) -> AdkSession:
        """Create a session.

        Raises:
            AlreadyExistsError: there is one of this id.
        """
        session_id = (session_id or "").strip() or uuid_utils.uuid4().hex
        stored = self._stored(app_name, user_id, session_id)
        changed = _Delta(app_name, user_id, _json_safe(state or {}))

        def decide(seen: SeenHistory, _: bool) -> HistoryChange:
            if seen.exists:
                raise AlreadyExistsError(f"Session with id {session_id} already exists.")
            return HistoryChange("", ops=changed.own, effects=changed.effects(stored.session))

        await stored.change(decide)
        created = await self.get_session(app_name=app_name, user_id=user_id, session_id=session_id)
        if created is None:
            raise SessionNotFoundError(f"Session {session_id} was deleted while it was created.")
        return created

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> AdkSession | None:
        """A session with its state and events, all of them or the newest (`config`); None if there is none."""
        stored = self._stored(app_name, user_id, session_id)
        await stored.finish_effects()
        recent = config.num_recent_events if config else None
        seen = await stored.read(-recent if recent else 0 if recent is None else -1, with_state=True)
        if not seen.exists:
            return None
        events = [event for entry in seen.entries for event in _events(entry)]
        if config and config.num_recent_events is not None:
            events = events[-config.num_recent_events :] if config.num_recent_events else []
        if config and config.after_timestamp:
            events = [event for event in events if event.timestamp >= config.after_timestamp]
        return await self._session(app_name, user_id, session_id.strip(), seen, events)

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """The sessions of a user of the app, or of all users, without events; the one used last comes last."""
        found: list[AdkSession] = []
        cursor: str | None = None
        while True:
            page = await Session.alist(
                user_id,
                limit=_PAGE,
                cursor=cursor,
                tenant=self._options.get("tenant"),
                settings=self._options.get("settings"),
            )
            names = [
                tuple(map(unquote, info.session_id.split(":"))) for info in page if info.session_id.count(":") == 2
            ]
            for app, user, session_id in names:
                if app == app_name and user_id in (None, user):
                    seen = await self._stored(app, user, session_id).read(-1, with_state=True)
                    if seen.exists:
                        found.append(await self._session(app, user, session_id, seen, []))
            cursor = page.cursor
            if cursor is None:
                break
        found.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=found)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with all its records; the state of its user and of the app stays."""
        await self.session(app_name, user_id, session_id).adelete()

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """The state of a user of the app, without the prefix `user:`."""
        return await self._wide_state(USER, app_name, user_id)

    # --- events -----------------------------------------------------------------------------------------

    async def append_event(self, session: AdkSession, event: Event) -> Event:
        """Append an event with its changes of state, in one step. One that is already the last changes nothing.

        Raises:
            SessionNotFoundError: the session was deleted. StaleSessionError: another writer has changed it since it
                was read: get it again.
        """
        if event.partial:
            return event
        stored = self._stored(session.app_name, session.user_id, session.id)
        native = json.loads(event.model_dump_json(exclude_none=True))
        delta = _json_safe(event.actions.state_delta) if event.actions and event.actions.state_delta else {}
        delta = {name: value for name, value in delta.items() if not name.startswith(TEMP)}
        if delta or "actions" in native:
            native.setdefault("actions", {})["state_delta"] = delta
        changed = _Delta(session.app_name, session.user_id, delta)

        def decide(seen: SeenHistory, may_extend: bool) -> HistoryChange | None:
            if not seen.exists:
                raise SessionNotFoundError(f"Session {session.id} not found.")
            if _is_last(native, seen.last):  # Retry after a lost reply.
                return None
            _check_fresh(session, seen)
            last = seen.last if may_extend and _continues(seen.last, native) else None
            items = [*(_natives(last) if last else []), native]
            entry = new_entry(ADAPTER, items, _read, agent=_author(items), extends=last)
            return HistoryChange(
                seen.revision,
                [entry],
                None if last is None else seen.length - 1,
                messages_cut=last.count if last else 0,
                title=title_of(entry),
                ops=changed.own,
                effects=changed.effects(stored.session),
            )

        # The branches of a parallel agent append to one session object.
        async with self._locks.setdefault(stored.session.session_id, asyncio.Lock()):
            _, revision = await stored.change(decide)
            await super().append_event(session, event)
            session.last_update_time = event.timestamp
            _mark(session, revision)
        return event

    # --- parts ------------------------------------------------------------------------------------------

    def _stored(self, app_name: str, user_id: str, session_id: str) -> LibrarySession:
        return LibrarySession(self.session(app_name, user_id, session_id), ADAPTER)

    async def _session(
        self, app_name: str, user_id: str, session_id: str, seen: SeenHistory, events: list[Event]
    ) -> AdkSession:
        of_app, of_user = await asyncio.gather(
            self._wide_state(APP, app_name, user_id), self._wide_state(USER, app_name, user_id)
        )
        state = {
            **seen.state,
            **{State.APP_PREFIX + name: value for name, value in of_app.items()},
            **{State.USER_PREFIX + name: value for name, value in of_user.items()},
        }
        session = AdkSession(
            app_name=app_name,
            user_id=user_id,
            id=session_id,
            state=state,
            events=events,
            last_update_time=_updated(seen),
        )
        _mark(session, seen.revision)
        return session

    async def _wide_state(self, prefix: str, app_name: str, user_id: str) -> dict[str, Any]:
        any_session = self.session(app_name, user_id, "any")
        fleet = get_client(self._options.get("settings"))

        async def read() -> dict[str, Any]:
            await fleet.open()
            owner = user_id if prefix == USER else None
            return await fleet.stores.state.read(wide_scope(any_session.keys.tenant, owner, fleet.settings.partitions))

        beginning = _wide_field(prefix, app_name, "")
        found = await any_session.portal.acall(read())
        return {name.removeprefix(beginning): value for name, value in found.items() if name.startswith(beginning)}


class _Delta:
    """Changes of state, sorted by whose state it is."""

    def __init__(self, app_name: str, user_id: str, values: Mapping[str, Any]) -> None:
        self._user_id = user_id
        self.own = [set_op(n, v) for n, v in values.items() if not n.startswith((APP, USER, TEMP))]
        self._wide: dict[str, list[StateOp]] = {}
        for name, value in values.items():
            if prefix := next((each for each in (APP, USER) if name.startswith(each)), None):
                field = _wide_field(prefix, app_name, name.removeprefix(prefix))
                self._wide.setdefault(prefix, []).append(set_op(field, value))
        self._id = uuid_utils.uuid4().hex

    def effects(self, session: Session) -> list[Effect]:
        """The changes of what is in other slots, for the session's outbox."""
        tenant = session.keys.tenant
        partitions = get_client(session.settings).settings.partitions
        owners = {APP: None, USER: self._user_id}
        return [
            Effect(f"{self._id}:{prefix}", wide_scope(tenant, owners[prefix], partitions), ops)
            for prefix, ops in self._wide.items()
        ]


def _escaped(name: str) -> str:
    return quote(name, safe="@-_").replace("~", "%7E").replace(".", "%2E")


def _wide_field(prefix: str, app_name: str, name: str) -> str:
    return f"{prefix}{_escaped(app_name)}:{name}"


def _json_safe(state: Mapping[str, Any]) -> dict[str, Any]:
    """State as JSON. What has no form in JSON becomes its text, as in ADK's own services."""
    safe: dict[str, Any] = to_jsonable_python(dict(state), fallback=repr)
    return safe


# --- events -----------------------------------------------------------------------------------------------


def _natives(entry: HistoryEntry) -> list[Native]:
    events: list[Native] = json.loads(entry.native)
    return events


def _continues(last: HistoryEntry | None, native: Native) -> bool:
    """Whether an event belongs to the invocation of the entry before it."""
    if last is None or last.adapter != ADAPTER:
        return False
    return bool(native.get("invocation_id")) and _natives(last)[-1].get("invocation_id") == native["invocation_id"]


def _is_last(native: Native, last: HistoryEntry | None) -> bool:
    return last is not None and last.adapter == ADAPTER and _natives(last)[-1] == native


def _author(events: Sequence[Native]) -> str:
    return next((str(event["author"]) for event in events if event.get("author") != "user"), DEFAULT_AGENT)


def _read(conversation: Any, event: Native, _: int, left_out: Any) -> Any:
    return read_event(conversation, event, left_out)


def _events(entry: HistoryEntry) -> list[Event]:
    """The events of an entry: as they were appended, or made of what a worker or another library wrote."""
    if entry.adapter == ADAPTER:
        return [Event.model_validate(native) for native in _natives(entry)]
    events: list[Event] = []
    for message in json.loads(entry.messages):
        by_model = message["kind"] == "response"
        parts = [made for part in message["parts"] if (made := _part(part)) is not None]
        if parts:
            events.append(
                Event.model_validate(
                    {
                        "id": f"{entry.turn}-{len(events)}",
                        "invocation_id": entry.turn,
                        "author": entry.agent if by_model or "function_response" in parts[0] else "user",
                        "timestamp": entry.at_ms / 1000,
                        "content": {"role": "model" if by_model else "user", "parts": parts},
                    }
                )
            )
    return events


def _part(part: dict[str, Any]) -> dict[str, Any] | None:
    match part["part_kind"]:
        case "user-prompt":
            content = part["content"]
            texts = [item for item in content if isinstance(item, str)] if isinstance(content, list) else [content]
            return {"text": " ".join(texts)}
        case "text" if part["content"]:
            return {"text": part["content"]}
        case "tool-call":
            args = part.get("args")
            called = {"id": part["tool_call_id"], "name": part["tool_name"]}
            return {"function_call": {**called, "args": (json.loads(args) if isinstance(args, str) else args) or {}}}
        case "tool-return":
            content = part["content"]
            response = content if isinstance(content, dict) else {"result": content}
            return {"function_response": {"id": part["tool_call_id"], "name": part["tool_name"], "response": response}}
        case _:  # instructions, thoughts, retries: they are not carried over
            return None


# --- revisions --------------------------------------------------------------------------------------------


def _updated(seen: SeenHistory) -> float:
    """When the session was changed last: the time of its last event."""
    if seen.last is None:
        return seen.created_ms / 1000
    if seen.last.adapter == ADAPTER:
        return float(_natives(seen.last)[-1].get("timestamp") or seen.last.at_ms / 1000)
    return seen.last.at_ms / 1000


def _mark(session: AdkSession, revision: str) -> None:
    # The attribute in which ADK's own services keep what they compare.
    session._storage_update_marker = revision  # noqa: SLF001


def _check_fresh(session: AdkSession, seen: SeenHistory) -> None:
    """Refuse a session object that another writer has left behind, as ADK's own services do.

    Raises:
        StaleSessionError: it has.
    """
    marker = session._storage_update_marker  # noqa: SLF001
    if marker is not None:
        stale = marker != seen.revision
    else:  # an object that the caller has made
        known = {event.id for event in session.events}
        last = seen.last
        stale = last is not None and _updated(seen) > session.last_update_time and _last_id(last) not in known
    if stale:
        raise StaleSessionError(
            "The session has been modified in storage since it was loaded. Please reload the session before appending "
            "more events."
        )


def _last_id(entry: HistoryEntry) -> str | None:
    return _events(entry)[-1].id if _events(entry) else None
