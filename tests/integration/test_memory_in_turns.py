"""Memory of agents: in their prompt, through their tools, and extracted from turns."""

from __future__ import annotations

import json
import uuid

from sessions import EventType
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def sid() -> str:
    return f"m-{uuid.uuid4().hex[:12]}"


def test_the_documents_sample(fleet: Fleet) -> None:
    """A search for "preferences" finds "prefers", of this user only, in all sessions of the user."""
    ann, bob = f"ann-{sid()}", f"bob-{sid()}"
    session = fleet.session(sid(), user_id=ann, memory={"provider": "rag", "use_embedding": True})
    session.add_memory("User prefers technical explanations")
    found = session.search_memory("preferences")
    assert [item["text"] for item in found] == ["User prefers technical explanations"]
    assert {"text", "score", "metadata"} <= found[0].keys()
    assert fleet.session(sid(), user_id=ann).search_memory("preferences") == found
    assert fleet.session(sid(), user_id=bob).search_memory("preferences") == []


def test_an_agent_with_memory_is_reminded(fleet: Fleet) -> None:
    """Relevant memories reach the prompt; the stream says how many; an agent without memory sees none of them."""
    session = fleet.session(sid(), user_id=sid())
    session.add_memory("User prefers morning meetings")
    turn = session.Agent("Assistant", memory=True, model="offline").submit("When do I like meetings?")
    assert "prefers morning meetings" in turn.result(timeout=30)
    retrieved = [event.data for event in turn.events() if event.type is EventType.RETRIEVED]
    assert retrieved == [{"memories": 1, "chunks": 0}]
    plain = session.sibling(sid()).Agent("Assistant", model="offline").chat("When do I like meetings?")
    assert "morning" not in plain


def test_a_session_with_memory_gives_it_to_its_agents(fleet: Fleet) -> None:
    """`Session(memory=True)` applies to all its agents, unless an agent opts out."""
    session = fleet.session(sid(), memory=True)
    session.add_memory("The meeting room is called Zephyr")
    assert "Zephyr" in session.Agent("One", model="offline").chat("What is the meeting room called?")
    assert "Zephyr" not in session.Agent("Two", model="offline", memory=False, instructions="x").chat("Which room?")


def test_agents_remember_and_search(fleet: Fleet) -> None:
    """Through tools; what one agent remembers, every session of the user finds."""
    user = sid()
    session = fleet.session(sid(), user_id=user)
    agent = session.Agent("A", memory=True)
    assert agent.chat('CALL remember({"fact": "The user is allergic to peanuts"})') == "ok: Remembered."
    other = fleet.session(sid(), user_id=user)
    assert [item["text"] for item in other.search_memory("allergies")] == ["The user is allergic to peanuts"]
    said = other.Agent("B", memory=True).chat('CALL search_memory({"query": "peanuts"})')
    assert "allergic to peanuts" in said


def test_a_prompt_tells_which_memory_is_newer(fleet: Fleet) -> None:
    """Each with its number and day, the newest first: also where the older one matches better; the same text once."""
    session = fleet.session(sid(), user_id=sid())
    old = session.add_memory("Favourite drink is cola")
    session.add_memory("favourite drink  is cola", metadata={"from": "a form"})
    new = session.add_memory("Favourite drink is now coffee, not cola")
    said = session.Agent("Assistant", memory=True, model="offline").chat("What is the favourite drink?")
    day = f"{session.get_memory(new)['updated_at']:%Y-%m-%d}"
    newest = said.index(f"- [{new[-8:]}] {day}: Favourite drink is now coffee, not cola")
    assert newest < said.index("] " + day, newest + 30), said
    assert said.count("] " + day) == 2, said
    assert session.search_memory("favourite drink")[0]["id"] == new
    assert old in {found["id"] for found in session.search_memory("favourite drink")}


def test_agents_correct_and_forget(fleet: Fleet) -> None:
    """Through tools, by the number with which a memory is shown; without one nothing is changed, and the model told."""
    session = fleet.session(sid(), user_id=sid())
    agent = session.Agent("A", memory=True)
    number = session.add_memory("The number of Ann is 555-0147")
    secret = session.add_memory("The code of the door is 4417", scope="session")
    call = json.dumps({"memory": number[-8:], "fact": "The number of Ann is 555-0199"})
    assert agent.chat(f"CALL correct_memory({call})") == "ok: Corrected."
    assert (session.get_memory(number)["text"], session.get_memory(number)["version"]) == (
        "The number of Ann is 555-0199",
        2,
    )
    assert agent.chat(f"CALL forget_memory({json.dumps({'memory': f'[{secret[-8:]}]'})})") == "ok: Forgotten."
    assert session.get_memory(secret) is None
    assert "no memory" in agent.chat(f"CALL forget_memory({json.dumps({'memory': secret[-8:]})})")
    assert "no memory" in agent.chat('CALL forget_memory({"memory": "all"})')
    other = fleet.session(sid(), user_id=sid())
    assert "no memory" in other.Agent("B", memory=True).chat(
        f"CALL forget_memory({json.dumps({'memory': number[-8:]})})"
    )
    assert session.get_memory(number) is not None


def test_a_fact_that_corrects_another_is_kept(fleet: Fleet) -> None:
    """However similar the two are; the same fact in other spelling is not kept twice."""
    session = fleet.session(sid(), user_id=sid())
    agent = session.Agent("A", memory=True)
    for fact in ("His phone number is 555-0147", "His phone number is 555-0199", "his phone number is 555-0199."):
        assert agent.chat(f"CALL remember({json.dumps({'fact': fact})})") == "ok: Remembered."
    assert [memory["text"][-4:] for memory in session.list_memory()] == ["0199", "0147"]


def test_facts_are_taken_from_what_is_said(fleet: Fleet) -> None:
    """`extract`: once, after the turn, and not what is already known; the extraction is not part of the history."""
    session = fleet.session(sid(), user_id=sid(), memory={"extract": True})
    plan = json.dumps({"facts": ["The user's name is Alice", "The user lives in Rome"]})
    assert session.Agent("A").chat(f"My name is Alice and I live in Rome\nSAY hello\nPLAN {plan}") == "hello"
    wait_until(lambda: len(session.list_memory()) == 2, description="two facts are remembered", timeout=30)
    again = json.dumps({"facts": ["The user's name is Alice.", "The user has a dog"]})
    session.Agent("A").chat(f"As I said, I am Alice, and I have a dog\nSAY ok\nPLAN {again}")
    wait_until(lambda: len(session.list_memory()) == 3, description="the new fact is remembered", timeout=30)
    texts = {memory["text"] for memory in session.list_memory()}
    assert texts == {"The user's name is Alice", "The user lives in Rome", "The user has a dog"}
    assert session.get_context()["message_count"] == 4


def test_a_fork_has_memories_and_documents_of_its_own(fleet: Fleet) -> None:
    """They begin equal and share nothing: additions and removals in one are not visible in the other."""
    session = fleet.session(sid())
    session.add_memory("Project Zephyr starts in May")
    session.add_knowledge(b"The budget of Zephyr is 40,000 euros.", name="budget.txt")
    session.save_state()
    fork = session.fork()
    assert [item["text"] for item in fork.search_memory("Zephyr")] == ["Project Zephyr starts in May"]
    assert fork.search_knowledge("budget")[0]["source"] == "budget.txt"
    assert [item["source"] for item in fork.list_knowledge()] == ["budget.txt"]
    session.clear_knowledge()
    session.clear_memory()
    assert fork.search_knowledge("budget")[0]["text"] == "The budget of Zephyr is 40,000 euros."
    assert len(fork.search_memory("Zephyr")) == 1
    fork.delete()
    session.delete()
