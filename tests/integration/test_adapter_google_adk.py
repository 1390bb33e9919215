"""Agents of Google ADK whose session service is ours: their own runner, a model double, and our workers."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from sessions import Session
from sessions.store.keys import SessionKeys
from tests.support.appending import killed_at
from tests.support.fleet import Fleet

pytest.importorskip("google.adk")

from google.adk.agents import LlmAgent
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.genai import types

from sessions.adapters.google_adk import FleetSessionService

KEY = f"k:{base64.b64encode(bytes(range(32))).decode()}"


class Double(BaseLlm):
    """Calls the tool when asked for a price; else says how many contents it was sent."""

    model: str = "double"

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """One response."""
        last = llm_request.contents[-1].parts[-1]
        if last.text and "price" in last.text:
            part = types.Part(function_call=types.FunctionCall(name="look_up", args={"query": "tea"}))
        else:
            part = types.Part(text=f"answer after {len(llm_request.contents)}")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def look_up(query: str, tool_context: Any) -> dict[str, str]:
    """Look something up, and count it in the state of session, user and app."""
    for name in ("asked", "user:asked", "app:asked", "temp:asked"):
        tool_context.state[name] = tool_context.state.get(name, 0) + 1
    return {"price": f"{query}: 4 euros"}


def event(text: str = "hello", *, author: str = "user", invocation: str = "", **more: Any) -> Event:
    content = types.Content(role="user" if author == "user" else "model", parts=[types.Part(text=text)])
    return Event(author=author, invocation_id=invocation, content=content, **more)


def changes(**state: Any) -> EventActions:
    return EventActions(state_delta={name.replace("__", ":"): value for name, value in state.items()})


@pytest.fixture
def ours(fleet: Fleet) -> FleetSessionService:
    """Our service, with a tenant of the test's own."""
    return FleetSessionService(settings=fleet.settings, tenant=f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture(params=["adk", "ours"])
def service(request: pytest.FixtureRequest) -> BaseSessionService:
    """What ADK's own service does is what ours must do."""
    if request.param == "adk":
        return InMemorySessionService()
    found: FleetSessionService = request.getfixturevalue("ours")
    return found


async def ask(service: BaseSessionService, text: str, session_id: str = "s1") -> list[str]:
    """Send one message to an agent; the texts of its events."""
    agent = LlmAgent(name="clerk", model=Double(), tools=[look_up])
    runner = Runner(app_name="shop", agent=agent, session_service=service)
    message = types.Content(role="user", parts=[types.Part(text=text)])
    events = [each async for each in runner.run_async(user_id="ada", session_id=session_id, new_message=message)]
    return [part.text for each in events for part in each.content.parts if part.text]


async def test_an_agent_has_the_same_session(service: BaseSessionService) -> None:
    """Two runs with a tool that changes state: state, events and answers are those of ADK's own service."""
    await service.create_session(app_name="shop", user_id="ada", session_id="s1", state={"plan": "pro"})
    assert await ask(service, "price of tea?") == ["answer after 3"]
    assert await ask(service, "thanks") == ["answer after 5"]
    session = await service.get_session(app_name="shop", user_id="ada", session_id="s1")
    assert session is not None
    assert session.state == {"plan": "pro", "asked": 1, "user:asked": 1, "app:asked": 1}
    kinds = [
        (each.author, list(part.model_dump(exclude_none=True)))
        for each in session.events
        for part in each.content.parts
    ]
    assert kinds == [
        *(("user", ["text"]), ("clerk", ["function_call"]), ("clerk", ["function_response"])),
        *(("clerk", ["text"]), ("user", ["text"]), ("clerk", ["text"])),
    ]


async def test_sessions_are_made_found_listed_and_deleted(service: BaseSessionService) -> None:
    """By app, user and id: the same id is another session of another user or app."""
    names = {"app_name": "shop", "user_id": "ada"}
    made = await service.create_session(**names, session_id=" s1 ", state={"a": 1})
    assert (made.id, made.state) == ("s1", {"a": 1})
    assert await service.get_session(**names, session_id="s1") == made
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**names, session_id="s1")
    other = await service.create_session(app_name="shop", user_id="b:o~b", session_id="s1")
    await service.create_session(app_name="sho", user_id="p:ada", session_id="s1")
    generated = await service.create_session(**names)
    assert generated.id
    await service.append_event(made, event(timestamp=generated.last_update_time + 5))
    listed = (await service.list_sessions(**names)).sessions
    assert [(each.id, each.events, each.state) for each in listed] == [(generated.id, [], {}), ("s1", [], {"a": 1})]
    everyone = (await service.list_sessions(app_name="shop")).sessions
    assert {(each.user_id, each.id) for each in everyone} == {("ada", "s1"), ("ada", generated.id), ("b:o~b", other.id)}
    await service.delete_session(**names, session_id="s1")
    await service.delete_session(**names, session_id="s1")
    assert await service.get_session(**names, session_id="s1") is None
    assert await service.get_session(app_name="shop", user_id="b:o~b", session_id="s1") is not None
    with pytest.raises(SessionNotFoundError):
        await service.append_event(made, event())


async def test_state_has_a_scope(service: BaseSessionService) -> None:
    """`app:` is the app's, `user:` the user's within the app, `temp:` is not stored, the rest the session's."""
    first = await service.create_session(
        app_name="shop", user_id="ada", session_id="1", state={"user:lang": "en", "x": 1}
    )
    delta = changes(app__open=True, user__lang="de", temp__t=1, x=None, y={"deep": [1.5]})
    sent = event(actions=delta)
    await service.append_event(first, sent)
    assert sent.actions.state_delta == {"app:open": True, "user:lang": "de", "x": None, "y": {"deep": [1.5]}}
    assert first.state["temp:t"] == 1
    second = await service.create_session(app_name="shop", user_id="ada", session_id="2")
    assert second.state == {"app:open": True, "user:lang": "de"}
    assert (await service.create_session(app_name="shop", user_id="bob")).state == {"app:open": True}
    assert (await service.create_session(app_name="other", user_id="ada")).state == {}
    again = await service.get_session(app_name="shop", user_id="ada", session_id="1")
    assert again is not None
    assert again.state == {"app:open": True, "user:lang": "de", "x": None, "y": {"deep": [1.5]}}
    assert "temp:t" not in again.events[0].actions.state_delta
    assert await service.get_user_state(app_name="shop", user_id="ada") == {"lang": "de"}
    assert await service.get_user_state(app_name="shop", user_id="bob") == {}


async def test_events_come_back_as_they_were_appended(service: BaseSessionService) -> None:
    """With bytes and all other fields; of a partial event nothing is stored; a config selects the newest ones."""
    session = await service.create_session(app_name="shop", user_id="ada", session_id="1")
    image = types.Part.from_bytes(data=b"\x00\xff", mime_type="image/png")
    full = Event(
        author="clerk",
        invocation_id="i1",
        content=types.Content(
            role="model", parts=[image, types.Part(text="ü", thought=True, thought_signature=b"\x01")]
        ),
        actions=EventActions(artifact_delta={"file": 0}, transfer_to_agent="agent", escalate=True),
        long_running_tool_ids={"t1"},
        turn_complete=True,
        custom_metadata={"k": [1, None]},
        usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=1),
        timestamp=1700000000.123,
    )
    sent = [
        full,
        *(event(str(number), invocation=f"i{number // 2}", timestamp=1700000001.0 + number) for number in range(5)),
    ]
    for each in sent:
        await service.append_event(session, each)
    await service.append_event(session, event("partial", partial=True))
    got = await service.get_session(app_name="shop", user_id="ada", session_id="1")
    assert got == session
    assert got is not None
    assert got.events == sent
    assert got.last_update_time == sent[-1].timestamp

    async def texts(**config: Any) -> list[str]:
        found = await service.get_session(
            app_name="shop", user_id="ada", session_id="1", config=GetSessionConfig(**config)
        )
        assert found is not None
        return [each.content.parts[0].text for each in found.events]

    assert await texts(num_recent_events=0) == []
    assert await texts(num_recent_events=2) == ["3", "4"]
    assert await texts(after_timestamp=1700000003.0) == ["2", "3", "4"]
    assert await texts(after_timestamp=1700000003.0, num_recent_events=1) == ["4"]
    await service.append_event(session, sent[-1])  # sent again, as after a lost reply
    assert await texts(num_recent_events=2) == ["3", "4"]


async def test_a_session_object_that_was_left_behind_is_refused(ours: FleetSessionService) -> None:
    """As ADK's service for databases does; and nothing of its state is written."""
    first = await ours.create_session(app_name="shop", user_id="ada", session_id="1")
    second = await ours.get_session(app_name="shop", user_id="ada", session_id="1")
    assert second is not None
    await ours.append_event(second, event(actions=changes(winner="second")))
    with pytest.raises(ValueError, match="modified in storage"):
        await ours.append_event(first, event(actions=changes(winner="first", app__winner="first")))
    stored = await ours.get_session(app_name="shop", user_id="ada", session_id="1")
    assert stored is not None
    assert stored.state == {"winner": "second"}
    assert len(stored.events) == 1
    copies = [stored.model_copy(deep=True) for _ in range(8)]
    done = await asyncio.gather(
        *(ours.append_event(each, event(str(n))) for n, each in enumerate(copies)), return_exceptions=True
    )
    assert sum(isinstance(each, Event) for each in done) == 1
    # The branches of a parallel agent share one object, and all of their events are kept.
    latest = await ours.get_session(app_name="shop", user_id="ada", session_id="1")
    assert latest is not None
    await asyncio.gather(*(ours.append_event(latest, event(str(n))) for n in range(8)))
    assert len(latest.events) == 10


async def test_a_worker_continues_a_conversation_of_adk(fleet: Fleet, ours: FleetSessionService) -> None:
    """The rest of Sessionfleet reads it; a worker answers next; ADK continues with what the worker said."""
    await ours.create_session(app_name="shop", user_id="ada", session_id="s1", state={"plan": "pro"})
    await ask(ours, "price of tea?")
    stored = ours.session("shop", "ada", "s1")
    assert [(m.role, m.text, m.agent) for m in stored.history()] == [
        ("user", "price of tea?", "clerk"),
        ("assistant", "", "clerk"),
        ("tool", '{"price": "tea: 4 euros"}', "clerk"),
        ("assistant", "answer after 3", "clerk"),
    ]
    assert stored.get_state() == {"plan": "pro", "asked": 1}
    assert stored.get_state("user:shop:asked") == 1
    info = Session.list("ada", settings=fleet.settings, tenant=stored.keys.tenant).sessions[0]
    assert (info.session_id, info.title, info.turns) == ("shop:ada:s1", "price of tea?", 1)
    assert await stored.Agent("clerk").achat("RECITE", timeout=40) == "price of tea? | answer after 3"
    assert await ask(ours, "thanks") == ["answer after 7"]
    found = await ours.get_session(app_name="shop", user_id="ada", session_id="s1")
    assert found is not None
    assert [(each.author, each.content.parts[0].text) for each in found.events[4:]] == [
        *(("user", "RECITE"), ("clerk", "price of tea? | answer after 3")),
        *(("user", "thanks"), ("clerk", "answer after 7")),
    ]


APPEND = """
import asyncio, sys
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from sessions.adapters.google_adk import FleetSessionService

async def main():
    service = FleetSessionService(tenant=sys.argv[1])
    number = 0
    while True:
        session = await service.get_session(app_name="shop", user_id="ada", session_id="1")
        delta = {"count": number, "user:count": number, "app:count": number}
        print(number, flush=True)
        actions = EventActions(state_delta=delta)
        await service.append_event(session, Event(author="user", invocation_id="i", actions=actions))
        number += 1

asyncio.run(main())
"""


async def test_a_process_dies_while_it_appends(fleet: Fleet, ours: FleetSessionService) -> None:
    """Event and state are written together; the state of user and app follows, even after kill -9."""
    await ours.create_session(app_name="shop", user_id="ada", session_id="1")
    tenant = ours.session("shop", "ada", "1").keys.tenant
    await asyncio.to_thread(killed_at, b"12", fleet, ["-c", APPEND, tenant])
    session = await ours.get_session(app_name="shop", user_id="ada", session_id="1")
    assert session is not None
    counted = [each.actions.state_delta["count"] for each in session.events]
    assert counted == list(range(len(counted)))
    assert len(counted) >= 12
    assert session.state == {"count": counted[-1], "user:count": counted[-1], "app:count": counted[-1]}


async def test_encryption_and_expiry(new_fleet: Callable[..., Fleet]) -> None:
    """Events and state of all scopes are encrypted; a session with a ttl expires as a whole."""
    fleet = new_fleet(SESSIONFLEET_ENCRYPTION_KEYS=KEY)
    service = FleetSessionService(settings=fleet.settings, ttl=100)
    session = await service.create_session(app_name="shop", user_id="ada", session_id="1", state={"a": "Quetzal"})
    for text in ("Quetzal", "Quetzal again"):
        delta = changes(user__b="Quetzal", app__c="Quetzal", d="Quetzal")
        await service.append_event(session, event(text, invocation="i", actions=delta))
    keys = SessionKeys.of("default", "shop:ada:1", fleet.settings.partitions)
    with fleet.server.client() as store:
        assert not any(b"Quetzal" in store.dump(key) for key in store.scan_iter(match="sf:v1:*"))
        ends = {store.pexpiretime(f"{keys.base}:{name}") for name in ("meta", "history", "state")}
    assert len(ends) == 1
    assert min(ends) > 0
    found = await service.get_session(app_name="shop", user_id="ada", session_id="1")
    assert found is not None
    assert found == session
    assert found.state == {"a": "Quetzal", "d": "Quetzal", "user:b": "Quetzal", "app:c": "Quetzal"}
