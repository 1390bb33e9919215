"""Encrypted deployments, turns: one secret is said in every way there is, and looked for in all that the server has.

The append-only file has every write since the server's start, also those of what is gone again: requests, journals,
steering messages, questions, and the wake-ups on the broker.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from broker_config.settings import Settings
from sessions import Agent, AgentTeam, Document, Event, EventType, Session, Task, Turn, TurnStatus
from sessions.errors import SealError, StateConflict, TurnConfigurationError
from tests.integration.test_cli_on_a_fleet import CLI, environment
from tests.integration.test_sealing import NEW, OLD, SECRET, holds, seen_with, sid
from tests.support import preloaded
from tests.support.fleet import Fleet, keys_without_ttl, running_fleet
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

TOOLS = ["look_up", "refund", "long_job", "tally", "read_state", "linger"]
KEYS = "SESSIONFLEET_ENCRYPTION_KEYS"
BOTH = f"{NEW},{OLD}"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which everything ever written is in the append-only file as it came."""
    options = ("--aof-use-rdb-preamble", "no", "--auto-aof-rewrite-percentage", "0")
    with running(Server(tmp_path_factory.mktemp("sealed"), options=options)) as started:
        yield started


@pytest.fixture(scope="module")
def sealed(own_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers with a key."""
    with running_fleet(tmp_path_factory.mktemp("fleet"), own_server, {KEYS: OLD}, ("sealed1", "sealed2")) as fleet:
        yield fleet


def stored(server: Server) -> Iterator[tuple[str, bytes]]:
    """Every key of the server, of whatever type, with all that is in it."""
    read: dict[bytes, Callable[[redis.Redis, bytes], Any]] = {
        b"string": lambda client, key: client.get(key),
        b"hash": lambda client, key: client.hgetall(key),
        b"list": lambda client, key: client.lrange(key, 0, -1),
        b"set": lambda client, key: client.smembers(key),
        b"zset": lambda client, key: client.zrange(key, 0, -1),
        b"stream": lambda client, key: client.xrange(key),
    }
    with server.client() as client:
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            if kind != b"none":  # it expired just now
                yield key.decode(), repr((key, read[kind](client, key))).encode()


def shown(server: Server) -> list[str]:
    """The keys in which the secret can be read."""
    return [key for key, value in stored(server) if SECRET.lower().encode() in value.lower()]


def waiting(turn: Turn) -> Turn:
    wait_until(lambda: turn.status is TurnStatus.WAITING, description="the turn waits", timeout=30)
    return turn


def told(events: Iterator[Event] | list[Event]) -> list[Any]:
    """What events say, without what no two runs have in common: into how many deltas a text was divided, too."""
    changing = ("worker", "turn", "metadata")
    said: list[Any] = []
    for event in events:
        data = {k: v for k, v in event.data.items() if k not in changing}
        if said and event.type == said[-1][0] == EventType.TEXT_DELTA:
            said[-1][1]["text"] += data["text"]
        else:
            said.append((event.type, data))
    return said


class Scenario:
    """Everything that is said in a session, with the secret in it; `answers` is what came back."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.session = fleet.session(sid(), user_id=f"u-{uuid.uuid4().hex[:8]}")
        self.agent = self.session.Agent("A", instructions=f"You know the {SECRET}.", tools=TOOLS)
        self.answers: list[Any] = []

    def run(self) -> list[Any]:
        for part in (
            self.turns,
            self.approvals,
            self.steering,
            self.others,
            self.state,
            self.records,
            self.schedules,
            self.memory,
            self.files,
        ):
            part()
            assert self.answers
        return self.answers

    def says(self, *answers: Any) -> None:
        self.answers += answers

    def turns(self) -> None:
        turn = self.agent.submit(f'CALL look_up({{"query": "{SECRET}"}})\nSAY the {SECRET} flies', stream=True)
        self.says(told(list(turn.events())), turn.result(timeout=30))
        typed = self.session.Agent("A", output_type=dict).submit(json.dumps({"bird": SECRET}))
        self.says(typed.result(timeout=30))

    def approvals(self) -> None:
        turn = waiting(self.agent.submit(f'CALL refund({{"amount": 3}})\nCALL long_job({{"size": 3}})\n{SECRET}'))
        self.says([(call.tool, call.args, call.kind) for call in turn.approvals()])
        turn.deny(turn.approvals()[0].call_id, f"the {SECRET} forbids it")
        wait_until(lambda: [call.tool for call in turn.approvals()] == ["long_job"], description="the next call")
        turn.provide(turn.approvals()[0].call_id, {"found": SECRET})
        self.says(turn.result(timeout=30), told(list(turn.events())))

    def steering(self) -> None:
        turn = self.agent.submit('CALL look_up({"query": "slowly", "seconds": 1})')
        self.fleet.noted("look_up", query="slowly")
        steered = self.agent.submit(f"SAY steered to the {SECRET}", policy="steer")
        self.says(steered.id == turn.id, turn.result(timeout=30))
        self.says([e.data for e in turn.events() if e.type == "steered"])

    def others(self) -> None:
        other = Agent("B", instructions=f"You, too, know the {SECRET}.", tools=["look_up"])
        message = json.dumps({"message": f'CALL look_up({{"query": "{SECRET}"}})\nSAY asked of the {SECRET}'})
        self.says(self.session.Agent("C", tools=[other]).chat(f"CALL ask_B({message})", timeout=30))
        tasks = [Task(f"find {SECRET}\nSAY found {SECRET}", agent=other), Task("SAY written", agent=self.agent)]
        result = AgentTeam([other, self.agent], tasks, settings=self.fleet.settings).start()
        self.says([(task.agent, task.text, task.status) for task in result.tasks])

    def state(self) -> None:
        session, changes = self.session, 'CALL tally({"key": "n"})\nCALL tally({"key": "user:n", "amount": 2})'
        session.set_state("bird", SECRET)
        session.set_state("user:bird", [SECRET])
        session.compare_and_set_state("bird", SECRET, {"name": SECRET})
        with pytest.raises(StateConflict, match=SECRET):
            session.compare_and_set_state("bird", 1, 2)
        self.says(session.increment_state("n", 0.1), session.increment_state("n", 0.2))
        self.says(self.agent.chat(f"{changes}\nCALL read_state({{}})", timeout=30).replace(session.session_id, ""))
        wait_until(lambda: session.get_state("user:n") == 2, description="the user's number is there")
        self.says(session.get_state(), session.get_state("user:bird"), session.increment_state("user:n"))

    def records(self) -> None:
        session = self.session
        first = session.save_state({"saved": SECRET})
        session.set_state("saved", "other")
        session.delete_state("bird")
        fork = session.fork()
        self.says(fork.get_state(), [(m.role, m.text) for m in fork.history(limit=100)])
        self.says(fork.Agent("A").chat(f"SAY forked {SECRET}", timeout=30), session.restore_state(checkpoint=first))
        self.says(session.get_context(SECRET))

    def schedules(self) -> None:
        rule = {"metadata": {"bird": SECRET}, "agent": self.agent, "schedule_id": "daily"}
        schedule = self.session.schedule("0 9 * * *", f"SAY the {SECRET} again", **rule)
        self.says(schedule.info.message, schedule.trigger().result(timeout=30))
        assert shown(self.fleet.server) == [] or self.fleet.settings.encryption_keys is None
        schedule.pause()  # an active one keeps its session from expiring
        turn = self.agent.submit(f"SAY {SECRET} later", not_before=0.1)
        self.says(turn.result(timeout=30))

    def memory(self) -> None:
        self.session.add_memory(f"The {SECRET} likes fish")
        reminded = self.session.Agent("A", memory=True)
        self.says(reminded.chat(f"What does it like?\nSAY the {SECRET} likes fish", timeout=30))

    def files(self) -> None:
        agent = self.session.Agent("F", tools=["draw"])
        document = Document(f"A {SECRET} at the pond".encode(), media_type="text/plain", name=f"{SECRET}.txt")
        drawn = f'CALL draw({{"text": "{SECRET}"}})\nSAY the {SECRET} is drawn'
        self.says(agent.chat([drawn, document], timeout=30), sorted(file.name for file in self.session.files()))
        self.says([self.session.read_file(file.id) for file in sorted(self.session.files(), key=lambda f: f.name)])
        self.says([(m.text, [p.get("name") for p in m.parts]) for m in self.session.history() if m.agent == "F"])


def test_nothing_that_is_said_can_be_read(sealed: Fleet, new_fleet: Callable[..., Fleet]) -> None:
    """In no key, of any type, and nowhere in the append-only file; all answers are those of an open deployment."""
    answers = Scenario(sealed).run()
    assert shown(sealed.server) == []
    assert holds(sealed.server.folder, SECRET) == []
    assert holds(sealed.server.folder, "user:bird"), "this is where it would be: names of state are not sealed"
    assert keys_without_ttl(sealed.server) == []
    fleet = new_fleet()
    fleet.start("open1")
    fleet.start("open2")
    fleet.ready()
    assert answers == Scenario(fleet).run()
    found = shown(fleet.server)
    for end in (":history", ":agents", ":state", ":checkpoints", ":events", ":memory"):
        assert any(key.endswith(end) for key in found), f"this is where they would be: {end}"


def test_a_turn_is_resumed_from_its_sealed_journal(new_fleet: Callable[..., Fleet]) -> None:
    """kill -9 in the middle of it: the next worker opens what was finished, and runs no tool twice."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1", **{KEYS: OLD})
    fleet.start("a")
    fleet.start("b")
    fleet.ready()
    session = fleet.session(sid())
    turn = session.Agent(tools=[*TOOLS, "charge"]).submit(
        'CALL charge({"amount": 3})\nCALL tally({"key": "n"})\nCALL linger({"seconds": 30})', stream=True
    )
    fleet.worker_of_pid(fleet.noted("linger")[0]["pid"]).kill()
    assert turn.result(timeout=30) == "ok: lingered"
    assert (turn.record().attempt, len(fleet.ledger("charge")), len(fleet.ledger("tally"))) == (2, 1, 1)
    assert session.get_state() == {"n": 1}
    assert turn.id.rpartition("~")[0] in str(stored_keys(fleet))
    assert not [key for key, value in stored(fleet.server) if b"lingered" in value]


def stored_keys(fleet: Fleet) -> list[str]:
    return [key for key, _ in stored(fleet.server)]


def test_keys_rotate_under_a_conversation(new_fleet: Callable[..., Fleet]) -> None:
    """A waiting turn, its history, agents, checkpoints and state are decrypted with the old key and encrypted again."""
    fleet = new_fleet(**{KEYS: OLD})
    before = fleet.start("before")
    fleet.ready()
    session = fleet.session(sid(), user_id="ann")
    agent = session.Agent("A", instructions="Be brief.", tools=TOOLS)
    agent.chat("first")
    session.set_state("n", 1)
    session.save_state()
    turn = waiting(agent.submit(f'CALL refund({{"amount": 3}})\nCALL tally({{"key": "n"}})\n{SECRET}'))
    before.terminate()

    fleet.start("after", **{KEYS: BOTH})
    fleet.ready()
    with seen_with(fleet, BOTH, session.session_id) as rotated:
        again = rotated.turn(turn.id)
        (call,) = again.approvals()
        again.approve(call.call_id)
        assert again.result(timeout=30) == "ok: n is 2"
        assert rotated.increment_state("n") == 3
        assert rotated.Agent("A").chat("SAY by name") == "by name"
        assert next(m.text for m in rotated.history() if m.role == "user") == "first"
        assert rotated.restore_state(checkpoint=1) == {"n": 1}
    with pytest.raises(SealError, match="'new'"):
        session.history()
    _resealed(fleet, session.session_id)


def _resealed(fleet: Fleet, session_id: str) -> None:
    """Afterwards the new key alone reads what the old one had sealed."""
    command = [*CLI, "keys", "reseal", "--session", session_id]
    with_both = environment(fleet.server.url, **{KEYS: BOTH})
    done = preloaded.run(command, env=with_both, check=True)
    assert re.match(r"re-encrypted \d+ values with the key 'new'", done.stdout)
    with seen_with(fleet, NEW, session_id) as new:
        assert next(m.text for m in new.history() if m.role == "user") == "first"
        assert new.restore_state(checkpoint=1) == {"n": 1}
    failed = preloaded.run(command, env=environment(fleet.server.url))
    assert failed.returncode != 0
    assert "SESSIONFLEET_ENCRYPTION_KEYS" in failed.stderr


@contextlib.contextmanager
def one_worker(fleet: Fleet, keys: str) -> Iterator[Fleet]:
    fleet.start("only", **({KEYS: keys} if keys else {}))
    fleet.ready()
    yield fleet


@pytest.mark.parametrize(("theirs", "missing"), [("", "not set"), (NEW, "it has new")], ids=["none", "another"])
def test_a_worker_that_lacks_the_key_says_so(new_fleet: Callable[..., Fleet], theirs: str, missing: str) -> None:
    """The turn fails at once, and its client reads why; later turns do not wait."""
    fleet = new_fleet()
    with one_worker(fleet, theirs):
        session = Session(sid(), settings=Settings(redis_url=fleet.server.url, encryption_keys=OLD))  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(TurnConfigurationError, match=rf"'old'.*{KEYS}.*{missing}"):
                session.Agent("A").chat("hello", timeout=20)
        session.client.portal.call(session.client.aclose())


def test_the_command_line_reads_what_is_sealed(sealed: Fleet) -> None:
    """`turns show`, with the setting; without it the error says what is missing."""
    session = sealed.session(sid())
    turn = waiting(session.Agent("A", tools=TOOLS).submit(f'CALL refund({{"amount": 3}})\nSAY {SECRET}'))
    with_keys = {**environment(sealed.server.url), KEYS: OLD}
    done = preloaded.run([*CLI, "turns", "show", turn.id], env=with_keys, check=True)
    assert SECRET in done.stdout
    assert "refund" in done.stdout
    bare = {name: value for name, value in environment(sealed.server.url).items() if name != KEYS}
    failed = preloaded.run([*CLI, "turns", "show", turn.id], env=bare)
    assert failed.returncode == 1
    assert "'old'" in failed.stderr
    assert KEYS in failed.stderr
    turn.cancel()
