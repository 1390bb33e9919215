"""Agents of pydantic-ai whose conversation store is ours: the same as with pydantic-ai's own, and with our workers."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationStore, InMemoryConversationStore
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessions import Session
from sessions.adapters.pydantic_ai import FleetConversationStore
from sessions.errors import BadRequest, SessionBusy, SessionOwnerError
from tests.support.appending import killed_at
from tests.support.fleet import Fleet

KEY = f"k:{base64.b64encode(bytes(range(32))).decode()}"


def _think(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    prompt: Any = messages[-1].parts[-1]
    if prompt.content in ("price", "refund"):
        return ModelResponse(parts=[ToolCallPart(prompt.content, {"amount": 4}, tool_call_id=uuid.uuid4().hex)])
    return ModelResponse(parts=[TextPart(f"answer {len(messages)}")])


agent = Agent(FunctionModel(_think), output_type=[str, DeferredToolRequests])


@agent.tool_plain
def price(amount: int) -> str:
    return f"{amount} euros"


@agent.tool_plain(requires_approval=True)
def refund(amount: int) -> str:
    return f"refunded {amount}"


@pytest.fixture
def ours(fleet: Fleet) -> FleetConversationStore:
    """Our store, with a tenant of the test's own."""
    return FleetConversationStore(settings=fleet.settings, tenant=f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture(params=["pydantic-ai", "ours"])
def store(request: pytest.FixtureRequest) -> ConversationStore:
    """What pydantic-ai's own store does is what ours must do."""
    if request.param == "pydantic-ai":
        return InMemoryConversationStore()
    found: FleetConversationStore = request.getfixturevalue("ours")
    return found


async def say(store: ConversationStore, conversation: Conversation, text: str, scope: str | None = None) -> Any:
    """Run one turn and save it; the result, which knows the new revision."""
    result = await agent.run(text, conversation=conversation)
    await store.save(result, scope=scope)
    return result


def texts(conversation: Conversation | None) -> list[Any]:
    assert conversation is not None
    return [part.content for message in conversation.messages for part in message.parts if hasattr(part, "content")]


async def talked(store: ConversationStore, *prompts: str, scope: str | None = None) -> Conversation:
    """A conversation with these prompts."""
    conversation = Conversation(conversation_id="c")
    for prompt in prompts:
        conversation = (await say(store, conversation, prompt, scope)).conversation
    return conversation


async def test_a_conversation_is_saved_and_loaded(store: ConversationStore) -> None:
    """Messages, usage and entries; a window of it; only what is new is stored."""
    assert await store.load("c") is None
    talk = await talked(store, "hello", "price")
    loaded = await store.load("c")
    assert loaded is not None
    assert loaded == talk
    assert texts(loaded) == ["hello", "answer 1", "price", "4 euros", "answer 5"]
    entries = await store.load_entries("c")
    assert entries is not None
    assert [entry.parent_id for entry in entries] == [None, *(entry.id for entry in entries[:-1])]
    assert texts(await store.load("c", limit=2)) == ["4 euros", "answer 5"]
    assert texts(await store.load("c", limit=0)) == []
    window = await store.load("c", limit=1)
    assert window is not None
    result = await agent.run("more", conversation=window)
    assert len(await store.save(result)) == 2
    assert await store.save(result) == []
    assert len(await store.load_entries("c") or []) == 8
    assert [entry.id for entry in await store.load_entries("c", limit=6) or []][:4] == [
        entry.id for entry in entries[2:]
    ]


async def test_writers_do_not_overwrite_each_other(store: ConversationStore) -> None:
    """One of them gets a conflict, and so does one whose conversation was deleted, or exists already."""
    await talked(store, "hello")
    loaded = [await store.load("c") for _ in range(2)]
    results = [await agent.run(text, conversation=each) for text, each in zip("ab", loaded, strict=True)]
    done = await asyncio.gather(*(store.save(each) for each in results), return_exceptions=True)
    assert sorted(type(each) for each in done if isinstance(each, Exception)) == [ConversationConflict]
    with pytest.raises(ConversationConflict):
        await store.save(Conversation(conversation_id="c"))
    again = await store.load("c")
    await store.delete("c")
    await talked(store, "anew")
    with pytest.raises(ConversationConflict):
        await store.save(await agent.run("x", conversation=again))


async def test_branches(store: ConversationStore) -> None:
    """Back to a message in the middle of a turn, on from there, back again; an edited history branches, too."""
    talk = await talked(store, "one", "price", "three")
    whole = await store.load_entries("c") or []
    middle = await store.branch("c", at=4, expected_revision=talk.revision)
    assert texts(middle) == ["one", "answer 1", "price"]
    assert [record.branches for record in await store.list_conversations()] == [[whole[-1].id]]
    with pytest.raises(ConversationConflict):
        await store.branch("c", at=1, expected_revision=talk.revision)
    edited = Conversation(messages=middle.messages[:3], conversation_id="c", revision=middle.revision)
    edited = (await say(store, edited, "other")).conversation
    assert texts(await store.load("c")) == ["one", "answer 1", "price", "other", "answer 3"]
    back = await store.branch("c", from_entry=whole[-1].id, expected_revision=edited.revision)
    assert back.messages == talk.messages
    assert [entry.id for entry in await store.load_entries("c") or []] == [entry.id for entry in whole]
    assert len((await store.list_conversations())[0].branches) == 2
    nothing = await store.branch("c", at=0, expected_revision=back.revision)
    assert texts(await store.load("c")) == texts(nothing) == []
    with pytest.raises(UserError, match="is not in the history"):
        await store.branch("c", from_entry="nowhere", expected_revision=nothing.revision)


async def test_forks(store: ConversationStore) -> None:
    """A fork has the messages up to a point, under the same ids, and stays when the conversation is deleted."""
    await talked(store, "one", "two", scope="ada")
    entries = await store.load_entries("c") or []
    fork = await store.fork("c", at=2, new_conversation_id="d", scope="bob")
    await say(store, fork, "forked", "bob")
    assert texts(await store.load("d", scope="bob")) == ["one", "answer 1", "forked", "answer 3"]
    assert [entry.id for entry in await store.load_entries("d") or []][:2] == [entry.id for entry in entries[:2]]
    assert texts(await store.load("c")) == ["one", "answer 1", "two", "answer 3"]
    with pytest.raises(ConversationConflict):
        await store.fork("c", new_conversation_id="d")
    await store.delete("c")
    assert texts(await store.load("d")) == ["one", "answer 1", "forked", "answer 3"]
    record = await store.read_record("d")
    assert record is not None
    assert (record.forked_from, record.forked_at) == ("c", entries[1].id)


async def test_a_scope_is_kept(store: ConversationStore) -> None:
    """A conversation of another scope is not there; lists have the newest first."""
    await talked(store, "hello", scope="ada")
    await say(store, Conversation(conversation_id="d"), "hello", "bob")
    await say(store, Conversation(conversation_id="e"), "hello", "ada")
    await say(store, Conversation(conversation_id="f"), "hello")
    assert await store.load("c", scope="bob") is None
    await store.delete("c", scope="bob")
    with pytest.raises(ConversationConflict):
        await store.save(await agent.run("x", conversation=await store.load("c")), scope="bob")
    assert [record.conversation_id for record in await store.list_conversations(scope="ada")] == ["e", "c"]
    assert [record.conversation_id for record in await store.list_conversations()] == ["f", "e", "d", "c"]
    assert [record.conversation_id for record in await store.list_conversations(limit=2)] == ["f", "e"]
    assert texts(await store.load("c", scope="ada")) == ["hello", "answer 1"]


async def test_a_run_that_paused_for_an_approval(store: ConversationStore) -> None:
    """The pending call is stored with the conversation; its result joins the turn of the call."""
    paused = await say(store, Conversation(conversation_id="c"), "refund")
    assert isinstance(paused.output, DeferredToolRequests)
    loaded = await store.load("c")
    assert loaded is not None
    assert loaded.deferred_tool_requests is not None
    results = loaded.deferred_tool_requests.build_results(approve_all=True)
    result = await agent.run(conversation=loaded, deferred_tool_results=results)
    await store.save(result)
    assert texts(await store.load("c")) == ["refund", "refunded 4", "answer 3"]
    assert (await store.load("c")).deferred_tool_requests is None  # type: ignore[union-attr]


async def test_a_worker_continues_a_conversation(ours: FleetConversationStore) -> None:
    """It sees the messages, and pydantic-ai sees the worker's turn: the revision from before it is an old one."""
    talk = await talked(ours, "hello", "refund", scope="ada")
    stored = ours.session("c")
    assert [(m.role, m.text) for m in stored.history()][:2] == [("user", "hello"), ("assistant", "answer 1")]
    assert (stored.info().title, stored.info().user_id, stored.info().turns) == ("hello", "ada", 2)
    assert (await stored.Agent("Assistant").achat("SAY and on", timeout=40)) == "and on"
    with pytest.raises(ConversationConflict):
        await ours.save(talk)
    loaded = await ours.load("c", scope="ada")
    assert loaded is not None
    assert texts(loaded)[-2:] == ["SAY and on", "and on"]
    assert loaded.usage == talk.usage
    assert loaded.deferred_tool_requests is None
    await say(ours, loaded, "more", "ada")
    entries = await ours.load_entries("c") or []
    assert len({entry.id for entry in entries}) == len(entries) == 8
    back = await ours.branch("c", from_entry=entries[5].id, expected_revision=(await ours.load("c")).revision)  # type: ignore[union-attr]
    assert texts(back)[-1] == "and on"
    assert [branch.turns for branch in stored.branches()] == [1]


async def test_the_store_of_one_user(fleet: Fleet, ours: FleetConversationStore) -> None:
    """With user_id=, rights are those of sessions: the owner's, and what is shared."""
    tenant = ours.session("c").keys.tenant
    ada, bob = (FleetConversationStore(who, settings=fleet.settings, tenant=tenant) for who in ("ada", "bob"))
    talk = await talked(ada, "hello")
    with pytest.raises(SessionOwnerError):
        await bob.load("c")
    with pytest.raises(BadRequest, match="scope 'eve'"):
        await bob.save(Conversation(conversation_id="d"), scope="eve")
    ada.session("c").share("bob", "read")
    seen = await bob.load("c")
    assert seen == talk
    with pytest.raises(SessionOwnerError):
        await bob.save(await agent.run("x", conversation=seen))
    ada.session("c").share("bob", "write")
    await say(bob, await bob.load("c") or Conversation(), "of bob")
    assert [message.user_id for message in ada.session("c").history()] == [None, None, "bob", "bob"]
    assert [record.conversation_id for record in await ada.list_conversations()] == ["c"]
    assert await bob.list_conversations() == []


async def test_an_open_turn_keeps_what_it_has_seen(fleet: Fleet, ours: FleetConversationStore) -> None:
    """A branch would take it away, so it waits; a save goes behind it."""
    await talked(ours, "SAY hello")
    prompt = f"HANG 0 3\nRECITE\n{uuid.uuid4().hex}"
    turn = await ours.session("c").Agent("Assistant").asubmit(prompt, timeout=60)
    await asyncio.to_thread(fleet.noted, "hung", prompt=prompt)
    loaded = await ours.load("c")
    assert loaded is not None
    with pytest.raises(SessionBusy):
        await ours.branch("c", at=1, expected_revision=loaded.revision)
    await say(ours, loaded, "meanwhile")
    assert await turn.aresult(timeout=40) == "SAY hello | answer 1"
    assert texts(await ours.load("c")) == [
        "SAY hello",
        "answer 1",
        "meanwhile",
        "answer 3",
        prompt,
        "SAY hello | answer 1",
    ]


SAVE = """
import asyncio, sys
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from sessions.adapters.pydantic_ai import FleetConversationStore

async def main(tenant, name, count):
    store = FleetConversationStore(tenant=tenant)
    for number in range(count):
        print(number, flush=True)
        while True:
            talk = await store.load("c", limit=4) or Conversation(conversation_id="c")
            talk.messages += [
                ModelRequest(parts=[UserPromptPart(f"{name} {number}")]),
                ModelResponse(parts=[TextPart(f"to {name} {number}")]),
            ]
            try:
                await store.save(talk)
                break
            except ConversationConflict:
                continue

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_two_processes_save_and_one_is_killed(fleet: Fleet, ours: FleetConversationStore) -> None:
    """Every save is there once and whole, in its process's order."""
    tenant = ours.session("c").keys.tenant
    killed = asyncio.to_thread(killed_at, b"15", fleet, ["-c", SAVE, tenant, "a", "100000"])
    finished = asyncio.to_thread(killed_at, None, fleet, ["-c", SAVE, tenant, "b", "25"])
    await asyncio.gather(killed, finished)
    said = texts(await ours.load("c"))
    assert [f"to {text}" for text in said[::2]] == said[1::2]
    for name, least in (("a", 15), ("b", 25)):
        numbers = [int(text.split()[1]) for text in said[::2] if text.startswith(name)]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= least
    assert ours.session("c").info().turns == len(said) // 2


async def test_encryption_and_expiry(new_fleet: Callable[..., Fleet]) -> None:
    """Messages and what is kept besides them are encrypted; a session with a ttl expires as a whole."""
    fleet = new_fleet(SESSIONFLEET_ENCRYPTION_KEYS=KEY)
    store = FleetConversationStore(settings=fleet.settings, ttl=100)
    talk = await talked(store, "Quetzal", "refund")
    await store.branch("c", at=3, expected_revision=talk.revision)
    base = store.session("c").keys.base
    with fleet.server.client() as redis:
        assert not any(
            b"Quetzal" in redis.dump(key) or b"refund" in redis.dump(key) for key in redis.scan_iter(match="sf:v1:*")
        )
        ends = {redis.pexpiretime(f"{base}:{name}") for name in ("meta", "history", "left", "branches", "adapters")}
    assert len(ends) == 1
    assert min(ends) > 0
    assert texts(await store.load("c")) == ["Quetzal", "answer 1", "refund"]
    await store.delete("c")
    with fleet.server.client() as redis:
        assert [key for key in redis.scan_iter(match=f"{base}:*") if b":op:" not in key] == []
    assert Session.list(settings=fleet.settings).sessions == []


def test_messages_of_one_save_that_are_several_exchanges(ours: FleetConversationStore) -> None:
    """Each is an entry, so that a worker's window never begins in the middle of one."""
    exchange = [ModelRequest(parts=[UserPromptPart("q")]), ModelResponse(parts=[TextPart("a")])]
    asyncio.run(ours.save(Conversation(messages=exchange * 3, conversation_id="c")))
    assert ours.session("c").info().turns == 3
