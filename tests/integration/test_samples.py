"""The samples of the documents that Sessionfleet was written for, letter by letter; only their import line is ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.support import preloaded
from tests.support.documents import make_pdf
from tests.support.fleet import ROOT, Fleet, running_fleet
from tests.support.servers import Server, running

SAMPLES = ROOT / "tests" / "samples"


def sample(name: str) -> str:
    """The text of a sample."""
    return (SAMPLES / f"{name}.txt").read_text()


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers with the offline model; what the samples read lies in the fleet's folder."""
    folder = tmp_path_factory.mktemp("samples")
    pages = ["Attention is a scarce resource of readers.", "Longer papers improve the efficiency of nobody."]
    (folder / "research_paper.pdf").write_bytes(make_pdf(pages))
    (folder / "calendar.pdf").write_bytes(make_pdf(["Tomorrow: no meeting before ten, lunch with Ann at one."]))
    environment = {"SESSIONFLEET_MODEL": "offline", "SESSIONFLEET_IMPORTS": ""}
    with (
        running(Server(folder / "server")) as server,
        running_fleet(folder, server, environment, workers=("one", "two")) as fleet,
    ):
        yield fleet


def run(fleet: Fleet, *parts: str) -> list[str]:
    """The lines that a program of these parts prints; it must end well. The lines it warns with come last."""
    code = "\n".join(("from sessions import Agent, AgentTeam, Session, Task", *parts))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
    done = preloaded.run(
        [sys.executable, "-c", code],
        env={**kept, "REDIS_URL": fleet.server.url, "PYTHONPATH": str(ROOT)},
        cwd=fleet.folder, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return [*done.stdout.splitlines(), *(line for line in done.stderr.splitlines() if "Warning" in line)]


def test_an_agent_remembers_in_a_new_process(offline: Fleet) -> None:
    """An agent that is only given a session id knows what an earlier process told it."""
    assert run(offline, sample("quick_start")) == []
    assert run(offline, sample("quick_start_later"), 'print("Alice" in agent.start("What is my name?"))') == ["True"]


def test_a_session_remembers(offline: Fleet) -> None:
    """Searching "preferences" finds "prefers"; the agent's prompt has it; a new process restores the session by id."""
    seen = run(
        offline, sample("memory"), "print(memories[0]['text'])",
        'print("technical" in agent.chat("Which explanations does the user prefer?"))', sample("saving"),
    )  # fmt: skip
    assert seen == ["User prefers technical explanations", "True"]
    said = 'print("Which explanations" in next(iter(session.history())).text)'
    assert run(offline, sample("restoring"), said) == ["True"]


def test_a_session_knows_documents(offline: Fleet) -> None:
    """A PDF and a finding; one warning that Qdrant serves what was asked of another provider."""
    *seen, warning = run(
        offline, sample("knowledge"),
        "print(results[0]['text'])", "print(sorted({r['source'].split('-')[0] for r in results}))",
        'print("40%" in agent.chat("By how much does AI improve efficiency?"))',
    )  # fmt: skip
    assert seen == ["Important finding: AI improves efficiency by 40%", "['research_paper.pdf', 'text']", "True"]
    assert "UserWarning: knowledge provider 'chroma': documents are stored in Qdrant" in warning


def test_all_options_of_a_session_at_once(offline: Fleet) -> None:
    """Including the path of another vector store, which is ignored with the same single warning."""
    assert len(run(offline, sample("session_options"), 'session.add_memory("a fact")')) == 1


def test_one_agent_serves_many_sessions(offline: Fleet) -> None:
    """A stand-alone agent with memory, as behind a web server; each session has its own memory."""
    asked = """
for session_id, message in (("s-1", 'CALL remember({"fact": "The password is swordfish"})'), ("s-2", "The password?")):
    print("swordfish" in agent.chat(message, session_id=session_id))
print("swordfish" in agent.chat("What is the password?", session_id="s-1"))
"""
    assert run(offline, sample("served_agent"), asked) == ["False", "False", "True"]


def test_several_agents_share_a_session(offline: Fleet) -> None:
    """The messages of both agents are in one transcript."""
    assert run(offline, sample("several_agents"), "print(session.get_context()['message_count'])") == ["4"]


def test_the_use_cases_open_sessions(offline: Fleet) -> None:
    """Each use case opens its own session, with memory and knowledge."""
    names = 'ticket_id, customer_id, user_id, project_id = "17", "c-1", "u-1", "p-1"'
    shared = 'session = Session(session_id=f"project_{project_id}", knowledge={"bases": ["handbook"]})'
    used = ('session.add_memory("likes tea")', shared, "session.list_knowledge()")
    assert run(offline, names, sample("use_cases"), *used) == []


def test_the_complete_example(offline: Fleet) -> None:
    """Run twice: the second process restores what the first one saved, and its agent knows both memory and PDF."""
    first = run(offline, sample("complete"))
    assert first[0] == "Starting new session"
    asked = """
print("User prefers morning meetings" in assistant.chat("What does the user do in the morning?"))
print("lunch with Ann" in assistant.chat("When is lunch with Ann?"))
print(len(session.list_knowledge()), session.get_context()["message_count"])
"""
    again = run(offline, sample("complete"), asked)
    assert again[0] == "Restored previous session"
    assert again[-4:-1] == ["True", "True", "1 8"]
    assert "UserWarning" in again[-1]
