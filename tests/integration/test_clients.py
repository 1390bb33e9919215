"""Clients of every kind: threads, event loops that come and go, forked children, a notebook, and programs that end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sessions import Agent, Session, TurnStatus
from sessions.client.per_process import get_client
from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet


def sid() -> str:
    return uuid.uuid4().hex


def run_script(
    fleet: Fleet, script: str, *arguments: str, warnings: str = "default", timeout: float = 40.0
) -> subprocess.CompletedProcess[str]:
    """Run a script as a client of this fleet."""
    env = {**os.environ, "REDIS_URL": fleet.server.url, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": warnings}
    return preloaded.run([sys.executable, "-c", script, *arguments], env=env, timeout=timeout)


def quiet(done: subprocess.CompletedProcess[str]) -> str:
    """What the script printed, having checked that it ended well and said nothing on stderr."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_fifty_threads_share_one_client(fleet: Fleet) -> None:
    """Threads that start at the same time get the same client, and each gets its own answer."""
    get_client.__globals__["_client_of"].cache_clear()
    with ThreadPoolExecutor(50) as threads:
        clients = list(threads.map(lambda _: get_client(fleet.settings), range(50)))
        assert len({id(client) for client in clients}) == 1
        answers = list(threads.map(lambda n: fleet.session(sid()).Agent("A").chat(f"SAY {n}"), range(50)))
    assert answers == [str(n) for n in range(50)]


def test_event_loops_may_come_and_go(fleet: Fleet) -> None:
    """Several asyncio.run in turn use the same client; what a loop gathers is answered, each to its caller."""

    async def ask(base: int) -> list[str]:
        agents = [fleet.session(sid()).Agent("A") for _ in range(10)]
        return await asyncio.gather(*(agent.achat(f"SAY {base + n}") for n, agent in enumerate(agents)))

    for base in (0, 100, 200):
        assert asyncio.run(ask(base)) == [str(base + n) for n in range(10)]


async def test_a_blocking_call_works_inside_a_running_loop(fleet: Fleet) -> None:
    """As in a notebook, whose cells run on a loop: `chat` works there too."""
    agent = fleet.session(sid()).Agent("A")
    assert agent.chat("SAY from a cell") == "from a cell"
    assert [e.text for e in agent.stream("SAY word") if e.text] == ["word"]


async def test_every_call_has_an_async_twin(fleet: Fleet) -> None:
    """achat, astart, asubmit, astream, aresult, aevents, acancel, arecord, aturn, adelete do what the others do."""
    session = fleet.session(sid())
    agent = session.Agent("A")
    assert await agent.achat("SAY one") == "one"
    assert await agent.astart("SAY two") == "two"
    assert "".join([e.text async for e in agent.astream("SAY a b c")]) == "a b c"
    turn = await agent.asubmit("SAY three")
    assert await turn.aresult(timeout=20) == "three"
    assert [e.type async for e in turn.aevents()] == [e.type for e in turn.events()]
    assert (await turn.arecord()).status is TurnStatus.SUCCEEDED
    assert (await (await session.aturn(turn.id)).aresult()) == "three"
    assert await turn.acancel() is TurnStatus.SUCCEEDED
    assert (await session.adelete())["turns"] == 4


async def test_waiting_can_be_cancelled_without_harm_to_the_turn(fleet: Fleet) -> None:
    """A caller's task that is cancelled stops waiting; the turn continues."""
    turn = await fleet.session(sid()).Agent("A").asubmit("SLEEP 0.5\nSAY on")
    waiting = asyncio.create_task(turn.aresult())
    await asyncio.wait([waiting], timeout=0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await turn.aresult(timeout=20) == "on"


FORK = """
import os, sys
from sessions import Session
say = lambda who, n: Session(f"{sys.argv[1]}-{who}").Agent("A").chat(f"SAY {who} {n}")
print(say("parent", 0), flush=True)
child = os.fork()
who = "child" if child == 0 else "parent"
answers = [say(who, n) for n in range(1, 11)]
assert answers == [f"{who} {n}" for n in range(1, 11)], answers
if child:
    assert os.waitpid(child, 0)[1] == 0
print(who, len(answers), flush=True)
"""


def test_a_forked_child_has_a_client_of_its_own(fleet: Fleet) -> None:
    """As in a web server that loads the application first: parent and child both continue, at the same time."""
    assert sorted(quiet(run_script(fleet, FORK, sid(), warnings="ignore")).split("\n")) == [
        "",
        "child 10",
        "parent 0",
        "parent 10",
    ]


ENDING_CHILD = """
import os, sys
from sessions import Session
from sessions.client import get_client
session = Session(sys.argv[1])
session.set_state("k", 1)
connection = lambda: get_client().portal.call(get_client().stores.redis.client_id())
before = connection()
child = os.fork()
if not child:
    sys.exit(session.get_state("k") != 1)
assert os.waitpid(child, 0)[1] == 0
print(session.get_state("k"), connection() == before)
"""


def test_a_forked_child_may_end_as_programs_do(fleet: Fleet) -> None:
    """What the child drops at its end is the parent's: the parent continues on its connection, at once."""
    assert quiet(run_script(fleet, ENDING_CHILD, sid(), warnings="ignore")) == "1 True\n"


POOL = """
import multiprocessing, sys
from sessions import Session
session = Session(sys.argv[1])
def ask(n): return session.Agent("A").chat(f"SAY {n}")
if __name__ == "__main__":
    print(ask(0))
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(pool.map(ask, range(1, 7)))
"""


def test_a_pool_of_forked_processes_may_use_the_parents_session(fleet: Fleet) -> None:
    """A Session made before the fork serves in each child."""
    assert quiet(run_script(fleet, POOL, sid(), warnings="ignore")) == "0\n['1', '2', '3', '4', '5', '6']\n"


CHAT = """
import sys
from sessions import Session
session = Session(sys.argv[1])
print(session.Agent("A").chat("SAY hello"))
"""


def test_a_program_that_ends_says_nothing(fleet: Fleet) -> None:
    """A script that chats and ends leaves no complaint of unfinished tasks on its stderr."""
    assert quiet(run_script(fleet, CHAT, sid())) == "hello\n"


UNFINISHED = (
    CHAT
    + """
turn = session.Agent("A").submit("SLEEP 100", stream=True)
events = turn.events()
print(turn.id, next(events).type)
import threading
threading.Thread(target=turn.result, daemon=True).start()
"""
)


def test_a_program_may_end_in_the_middle_of_a_stream(fleet: Fleet) -> None:
    """Ending with a half-read stream and a waiting thread neither hangs nor complains."""
    session = fleet.session(sid())
    done = run_script(fleet, UNFINISHED, session.session_id)  # its time is up long before the turn ends
    assert (done.returncode, "never awaited" in done.stderr, "pending" in done.stderr) == (0, False, False)
    turn_id, _, event = done.stdout.removeprefix("hello\n").partition(" ")
    assert event == "started\n"
    session.turn(turn_id).cancel()


FAREWELL = (
    CHAT
    + """
turn = session.Agent("A").submit("SLEEP 60")
print("ready", flush=True)
sys.stdin.readline()
"""
)


def test_a_program_ends_though_the_store_is_gone(new_server: object, new_fleet: object) -> None:
    """With the store killed, a program exits as quickly and quietly as with it."""
    fleet: Fleet = new_fleet()  # type: ignore[operator]
    fleet.start("w1")
    fleet.ready()
    env = {**os.environ, "REDIS_URL": fleet.server.url, "PYTHONPATH": str(ROOT)}
    script = subprocess.Popen(
        [sys.executable, "-c", FAREWELL, sid()],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert script.stdout is not None
    assert [script.stdout.readline(), script.stdout.readline()] == ["hello\n", "ready\n"]
    fleet.server.kill()
    began = time.monotonic()
    _out, err = script.communicate("\n", timeout=20)
    took = time.monotonic() - began
    assert (script.returncode, "Task" in err, "Traceback" in err) == (0, False, False), err
    assert took < 8


def test_a_stand_alone_agent_names_its_session(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Agent(memory={"session_id": ...})` works on the environment's fleet, and continues that session."""
    from broker_config.settings import load_settings

    monkeypatch.setenv("REDIS_URL", fleet.server.url)
    load_settings.cache_clear()
    try:
        name = sid()
        agent = Agent(name="Assistant", instructions="You are helpful", memory={"session_id": name})
        assert agent.start("SAY hello") == "hello"
        assert agent.chat("SAY other", session_id=name) == "other"
        assert Session(name).session_id == agent.session.session_id
        assert len(Session(name).client.portal.call(Session(name).client.stores.turns.listed(agent.session.keys))) == 2
    finally:
        load_settings.cache_clear()


def test_processes_start_in_a_folder_of_their_own(fleet: Fleet, tmp_path: Path) -> None:
    """A client needs nothing but the URL: it writes no file where it is started."""
    env = {**os.environ, "REDIS_URL": fleet.server.url, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", CHAT, sid()], env=env, cwd=tmp_path, check=True, timeout=40)
    assert list(tmp_path.iterdir()) == []
