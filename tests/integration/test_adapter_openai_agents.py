"""Agents of the OpenAI Agents SDK whose session is ours: their own runner, a scripted model, and our workers."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sessions import Session
from sessions.errors import SessionBusy, SessionOwnerError
from sessions.store.keys import SessionKeys
from tests.support.appending import killed_at
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

pytest.importorskip("agents")

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

from sessions.adapters.openai_agents import FleetSession

KEY = f"k:{base64.b64encode(bytes(range(32))).decode()}"
CALL = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": '{"query": "tea"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "4 euros"}
ANSWER = {
    "type": "message",
    "id": "m1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Tea is 4 euros", "annotations": []}],
}
HOSTED = {"type": "web_search_call", "id": "w1", "status": "completed", "action": {"type": "search", "query": "tea"}}

set_tracing_disabled(True)


@function_tool
def look_up(query: str) -> str:
    """Look something up."""
    return f"{query}: 4 euros"


def user(text: str) -> Any:
    return {"role": "user", "content": text}


@pytest.fixture
def session(fleet: Fleet) -> FleetSession:
    """A conversation of the test's own."""
    return FleetSession(uuid.uuid4().hex, settings=fleet.settings)


def said(session: Session) -> list[tuple[str, str]]:
    """Who said what, in the transcript."""
    return [(message.role, message.text or str(message.tool)) for message in session.history()]


async def test_an_agent_of_the_sdk_has_a_session_of_ours(fleet: Fleet, session: FleetSession) -> None:
    """Two runs with a tool: the second sees the first, and the rest of Sessionfleet reads the same conversation."""
    model = ScriptedModel(
        [
            [function_call("look_up", {"query": "tea"}, call_id="c1")],
            [assistant_message("Tea is 4 euros")],
            [assistant_message("You asked about tea")],
        ]
    )
    agent = Agent(name="Clerk", tools=[look_up], model=model)
    assert (await Runner.run(agent, "What is tea?", session=session)).final_output == "Tea is 4 euros"
    again = FleetSession(session.session_id, settings=fleet.settings)
    assert (await Runner.run(agent, "What did I ask?", session=again)).final_output == "You asked about tea"
    assert [item.get("role", item.get("type")) for item in await session.get_items()] == [
        *("user", "function_call", "function_call_output", "assistant", "user", "assistant"),
    ]
    assert said(session.session) == [
        *(("user", "What is tea?"), ("assistant", "look_up"), ("tool", "tea: 4 euros")),
        *(("assistant", "Tea is 4 euros"), ("user", "What did I ask?"), ("assistant", "You asked about tea")),
    ]
    info = session.session.info()
    assert (info.title, info.turns, info.messages) == ("What is tea?", 2, 4)


async def test_items_come_back_as_they_were_added(session: FleetSession) -> None:
    """Also those that no other library knows; a limit counts items, across the entries in which they are stored."""
    items: list[Any] = [
        user("What is tea?"),
        HOSTED,
        CALL,
        RESULT,
        ANSWER,
        user("ü\n\u2028 and more"),
        {"odd": [1, None]},
    ]
    await session.add_items(items[:2])
    await session.add_items(items[2:])
    assert await session.get_items() == items
    assert [await session.get_items(limit) for limit in (0, 1, 3, 50)] == [[], items[-1:], items[-3:], items]
    assert await session.pop_item() == items[-1]
    assert await session.pop_item() == items[-2]
    assert await session.get_items() == items[:-2]
    assert session.session.info().turns == 1


async def test_a_worker_continues_a_conversation_of_the_sdk(fleet: Fleet, session: FleetSession) -> None:
    """And the SDK continues the worker's. A call whose result is missing is not shown to the worker's model."""
    await session.add_items([user("SAY tea"), ANSWER, user("SAY more"), CALL])
    assert await session.session.achat("RECITE", timeout=40) == "SAY tea | Tea is 4 euros | SAY more"
    items: Any = await session.get_items()
    assert items[:4] == [user("SAY tea"), ANSWER, user("SAY more"), CALL]
    assert items[4:] == [
        user("RECITE"),
        {"role": "assistant", "content": "SAY tea | Tea is 4 euros | SAY more"},
    ]
    model = ScriptedModel([[assistant_message("done")]])
    await Runner.run(Agent(name="Clerk", model=model), "and now?", session=session)
    assert [item.get("content") for item in model.calls[0].input][-2:] == [items[-1]["content"], "and now?"]
    assert await session.pop_item() is not None
    assert await session.pop_item() == user("and now?")
    assert await session.pop_item() == items[-1]  # of the worker's turn, of which the message stays
    assert (await session.get_items())[-1] == items[-2]
    assert said(session.session)[-1] == ("user", "RECITE")


async def test_an_open_turn_sees_one_history(fleet: Fleet, session: FleetSession) -> None:
    """While a worker runs a turn, items are added behind it, and what it has seen is neither removed nor extended."""
    await session.add_items([user("SAY tea"), ANSWER])
    prompt = f"HANG 0 3\nRECITE\n{session.session_id}"
    turn = await session.session.Agent("Assistant").asubmit(prompt, timeout=60)
    await asyncio.to_thread(fleet.noted, "hung", prompt=prompt)
    with pytest.raises(SessionBusy, match="is open and builds on"):
        await session.pop_item()
    with pytest.raises(SessionBusy, match="is open and builds on"):
        await session.clear_session()
    await session.add_items([HOSTED, user("meanwhile")])
    assert (await session.get_items())[:2] == [user("SAY tea"), ANSWER]
    assert await turn.aresult(timeout=40) == "SAY tea | Tea is 4 euros"
    assert [item.get("content", item.get("type")) for item in await session.get_items()][2:] == [
        *("web_search_call", "meanwhile", prompt, "SAY tea | Tea is 4 euros"),
    ]


async def test_clearing_empties_the_session_and_leaves_it_there(fleet: Fleet, session: FleetSession) -> None:
    """Items, branches, the records of turns and the title go; the session's state stays; deleting leaves nothing."""
    stored = session.session
    await session.add_items([user("SAY secret"), ANSWER])
    turn = await stored.Agent("Assistant").asubmit("SAY again", timeout=40)
    await turn.aresult(timeout=40)
    await stored.aregenerate(timeout=40)
    stored.set_state("kept", 1)
    await session.clear_session()
    info = stored.info()
    assert (await session.get_items(), info.turns, info.messages, info.title) == ([], 0, 0, "")
    assert (stored.branches(), stored.turns().turns, stored.get_state()) == ([], [], {"kept": 1})
    await session.add_items([user("SAY new")])
    assert await session.get_items() == [user("SAY new")]
    await stored.adelete()
    with fleet.server.client() as store:
        keys = SessionKeys.of("default", stored.session_id, fleet.settings.partitions)
        left = {key.decode() for key in store.scan_iter(match=f"{keys.base}:*", count=10_000)}
    assert {key.removeprefix(f"{keys.base}:").partition(":")[0] for key in left} <= {"op", "idem"}


async def test_rights_of_users_and_tenants(fleet: Fleet) -> None:
    """The first user owns the session; others need a share; another tenant has another session of the same id."""
    name = uuid.uuid4().hex
    ada, bob = (FleetSession(name, who, settings=fleet.settings) for who in ("ada", "bob"))
    await ada.add_items([user("SAY tea"), ANSWER])
    for attempt in (bob.get_items(), bob.add_items([user("x")]), bob.pop_item(), bob.clear_session()):
        with pytest.raises(SessionOwnerError):
            await attempt
    ada.session.share("bob", "read")
    assert await bob.get_items() == [user("SAY tea"), ANSWER]
    with pytest.raises(SessionOwnerError, match=r"share\('bob', 'write'\)"):
        await bob.add_items([user("x")])
    ada.session.share("bob", "write")
    await bob.add_items([user("of bob")])
    assert [message.user_id for message in ada.session.history()] == [None, None, "bob"]
    other = FleetSession(name, "eve", tenant="other", settings=fleet.settings)
    assert await other.get_items() == []
    assert name in [info.session_id for info in Session.list("ada", settings=fleet.settings)]


async def test_a_session_with_a_ttl_expires_as_a_whole(fleet: Fleet) -> None:
    """Each use begins the ttl again; all keys have the same end."""
    session = FleetSession(uuid.uuid4().hex, ttl=100, settings=fleet.settings)
    await session.add_items([user("SAY tea"), ANSWER])
    base = session.session.keys.base
    with fleet.server.client() as store:
        first = store.pexpiretime(f"{base}:meta")
        await session.pop_item()
        ends = {store.pexpiretime(f"{base}:{name}") for name in ("meta", "history")}
    assert len(ends) == 1
    assert min(ends) > first


def test_two_processes_append_and_one_is_killed(fleet: Fleet, session: FleetSession, tmp_path: Path) -> None:
    """What each call appended stays together and in order; nothing is lost, half-written or twice."""
    command = ["-m", "tests.support.appending", session.session_id]
    with ThreadPoolExecutor() as threads:
        first = threads.submit(killed_at, b"12", fleet, [*command, "a", "100000", str(tmp_path)])
        for name in ("b", "c"):
            threads.submit(killed_at, None, fleet, [*command, name, "20", str(tmp_path)])
    begun = first.result()
    items: Any = asyncio.run(session.get_items())
    asked: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    answered: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for at, item in enumerate(items):
        if "role" in item:
            name, _, number = item["content"].split()
            asked[name].append(int(number))
        elif item["type"] == "function_call":
            name, number = item["call_id"][0], item["call_id"][1:]
            assert items[at + 1] == {**RESULT, "call_id": item["call_id"], "output": f"{name} {number}"}
            answered[name].append(int(number))
    assert len(items) == sum(len(asked[name]) + 2 * len(answered[name]) for name in asked)
    for name in ("b", "c"):
        assert asked[name] == answered[name] == list(range(20))
    assert asked["a"] == list(range(len(asked["a"])))
    assert len(asked["a"]) in (begun, begun + 1)  # what was in flight is there, or it is not
    assert answered["a"] == asked["a"][: len(answered["a"])]
    assert len(asked["a"]) - len(answered["a"]) in (0, 1)
    shown = [message.role for message in session.session.history(1000)]
    assert shown.count("user") == sum(map(len, asked.values()))
    assert shown.count("tool") == sum(map(len, answered.values()))


@pytest.fixture
def sealed(new_fleet: Callable[..., Fleet]) -> Fleet:
    """A fleet with encryption; no worker runs."""
    return new_fleet(SESSIONFLEET_ENCRYPTION_KEYS=KEY)


async def test_nothing_is_stored_in_the_clear(sealed: Fleet) -> None:
    """Items, messages and titles are encrypted, and stay readable with a new key."""
    session = FleetSession("s", "ada", settings=sealed.settings)
    await session.add_items([user("Quetzalcoatlus"), CALL])
    await session.add_items([RESULT, ANSWER])
    with sealed.server.client() as store:
        dumps = [store.dump(key) for key in store.scan_iter(match="sf:v1:*")]
        assert not any(b"Quetzal" in dump or b"4 euros" in dump for dump in dumps)
    assert await session.get_items() == [user("Quetzalcoatlus"), CALL, RESULT, ANSWER]
    assert session.session.info().title == "Quetzalcoatlus"


async def test_a_write_whose_reply_is_lost_is_done_once(fleet: Fleet, session: FleetSession) -> None:
    """The script runs twice under one operation, as after a lost connection: the second time it changes nothing."""
    scripts = fleet.client.stores.scripts
    run = scripts.run

    async def twice(call: Any) -> Any:
        first = await run(call)
        assert await run(call) == first or call.script.name == "read_history"
        return first

    await session.add_items([user("SAY tea")])
    scripts.run = twice  # type: ignore[method-assign]
    try:
        await session.add_items([user("SAY more"), ANSWER])
        assert await session.pop_item() == ANSWER
        assert await session.get_items() == [user("SAY tea"), user("SAY more")]
        await session.clear_session()
    finally:
        del scripts.run
    assert await session.get_items() == []


async def test_a_cancelled_append_is_done_or_not(session: FleetSession) -> None:
    """The caller that cancels knows, when the cancel comes back, that nothing of it is still under way."""
    task = asyncio.ensure_future(session.add_items([user("SAY tea")]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await session.get_items() in ([], [user("SAY tea")])
    before = json.dumps(await session.get_items())
    await asyncio.sleep(0.05)
    assert json.dumps(await session.get_items()) == before


def test_the_session_is_kept_when_the_server_is_restarted(new_fleet: Callable[..., Fleet]) -> None:
    """It is durable like any session."""
    fleet = new_fleet()
    session = FleetSession("s", settings=fleet.settings)
    asyncio.run(session.add_items([user("SAY tea")]))
    fleet.server.stop()
    fleet.server.start()
    wait_until(lambda: asyncio.run(session.get_items()) == [user("SAY tea")], description="it is there again")
