"""A random campaign: many turns on several workers under faults, and the invariants to check afterwards.

The seed determines the faults, their times and victims, and the messages of each session, so that a run can be
repeated, except for the machine's own timing.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from broker_config.celery_options import BROKER_PREFIX
from sessions import Turn, TurnStatus
from sessions.client.wakeups import publish_wake
from sessions.errors import BackendError, SessionBusy
from sessions.protocol.event import EventType
from sessions.store.wake_up import WakeUp
from tests.support.bad_messages import BAD_MESSAGES, remote_control
from tests.support.broker import queue_key
from tests.support.fleet import Fleet, Worker, keys_without_ttl
from tests.support.waiting import wait_until

LEASE, SHUTDOWN_GRACE, TOOL_GRACE = 1.0, 2.0, 2.0
EXIT_BOUND = SHUTDOWN_GRACE + TOOL_GRACE + 14.0
"""The maximum time in seconds that a worker may take to exit; see docs/operations.md."""
ENVIRONMENT = {
    "SESSIONFLEET_LEASE": str(LEASE),
    "SESSIONFLEET_SHUTDOWN_GRACE": str(SHUTDOWN_GRACE),
    "SESSIONFLEET_TOOL_GRACE": str(TOOL_GRACE),
    "SESSIONFLEET_MAX_ATTEMPTS": "100",  # each kill is a crash of all turns that ran there
    "SESSIONFLEET_MAILBOX_LIMIT": "20",
    "SESSIONFLEET_MODEL_RETRIES": "20",
    "SESSIONFLEET_MODEL_BACKOFF": "0.1",
}
_TOOLS = ["charge", "look_up", "tally"]


@dataclass
class SentMessage:
    """An accepted message, in the order of its session."""

    turn: Turn
    answer: str
    counts: bool  # adds one to the session's state
    cancelled: bool = False


@dataclass
class Conversation:
    """A session, whose thread sends its messages one after the other."""

    name: str
    random: random.Random
    sent: list[SentMessage] = field(default_factory=list)
    error: Exception | None = None


class Campaign:
    """Call `run`, then `check`.

    Args:
        fleet: a fleet with `ENVIRONMENT`, with store and broker on one server, and no workers yet.
        seed: determines the random choices.
        seconds: for how long messages are sent and faults are made.
        sessions: the number of sessions.
        workers: the number of workers.
    """

    def __init__(self, fleet: Fleet, seed: int, *, seconds: float, sessions: int, workers: int) -> None:
        self._fleet = fleet
        self._random = random.Random(seed)
        self._seconds = seconds
        self._conversations = [Conversation(f"talk-{n}", random.Random(f"{seed}/{n}")) for n in range(sessions)]
        self._stop_sending = threading.Event()
        self._count = workers
        self._killed: set[str] = set()
        self._stopping: list[tuple[Worker, float]] = []
        self._waiters: list[threading.Thread] = []
        self._exits: dict[str, tuple[int | None, float]] = {}
        self._started = 0
        self.faults: Counter[str] = Counter()
        self.took: dict[str, float] = {}
        self._began = time.monotonic()

    # --- messages ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Send messages and make faults, then wait until all turns have ended, and stop the workers."""
        for _ in range(self._count):
            self._start_worker()
        self._fleet.ready(timeout=120)
        self._phase("start")
        threads = [
            threading.Thread(target=self._send_messages, args=(conversation,)) for conversation in self._conversations
        ]
        for thread in threads:
            thread.start()
        try:
            self._make_faults()
        finally:
            self._stop_sending.set()
            for thread in threads:
                thread.join()
        self._phase("faults")
        for sent in self._all:
            wait_until(lambda a=sent: _final(a.turn), description=f"{sent.turn} has ended", timeout=300)  # type: ignore[misc]
        self._phase("turns end")
        self._fleet.ready(timeout=120)
        for worker in wait_until(lambda: r if (r := self._ready) == self._running else [], description="all are ready"):
            self._request_stop(worker)
        for thread in self._waiters:
            thread.join()
        self._phase("stop")

    def _phase(self, name: str) -> None:
        now = time.monotonic()
        self.took[name], self._began = round(now - self._began, 1), now

    @property
    def turns(self) -> int:
        """How many messages were accepted."""
        return len(self._all)

    @property
    def _all(self) -> list[SentMessage]:
        return [sent for conversation in self._conversations for sent in conversation.sent]

    @property
    def _running(self) -> list[Worker]:
        stopping = {worker.name for worker, _ in self._stopping}
        return [w for w in self._fleet.workers if w.name not in stopping | self._killed]

    @property
    def _ready(self) -> list[Worker]:
        return [worker for worker in self._running if " ready." in worker.log]

    def _start_worker(self) -> None:
        self._fleet.start(f"w{self._started}")
        self._started += 1

    def _send_messages(self, conversation: Conversation) -> None:
        try:
            agent = self._fleet.session(conversation.name).Agent("A", tools=_TOOLS)
            number = 0
            while not self._stop_sending.wait(conversation.random.uniform(0.05, 0.5)):
                message, sent = _message(conversation, number)
                turn = self._accepted(lambda m=message, n=number: agent.submit(m, idempotency_key=f"m{n}"))  # type: ignore[misc]
                if conversation.random.random() < 0.2:
                    again = self._accepted(lambda m=message, n=number: agent.submit(m, idempotency_key=f"m{n}"))  # type: ignore[misc]
                    assert again.id == turn.id, "one key is one turn"
                conversation.sent.append(SentMessage(turn, *sent))
                number += 1
        except Exception as error:  # noqa: BLE001 - `check` raises it in the test's own thread
            conversation.error = error

    def _accepted(self, submit: Callable[[], Turn]) -> Turn:
        """Retry while the store is unavailable or the mailbox is full, as a client would."""
        until = time.monotonic() + 300
        while True:
            try:
                return submit()
            except (BackendError, SessionBusy):
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    # --- faults -----------------------------------------------------------------------------------------

    def _make_faults(self) -> None:
        kinds: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "freeze": self._freeze,
            "restart the server": self._restart_server,
            "bad messages": self._send_bad_messages,
            "flush the broker": self._flush_broker,
            "slow writes": self._slow_writes,
            "cancel": self._cancel,
            "wake twice": self._wake_again,
        }
        often = ["cancel", "wake twice", "bad messages", "slow writes"]
        until = time.monotonic() + self._seconds
        bag: list[str] = []
        while time.monotonic() < until or not self.faults.keys() >= kinds.keys():
            if not bag:
                bag = [*kinds, *often]
                self._random.shuffle(bag)
            kind = bag.pop()
            self.faults[kind] += 1
            kinds[kind]()
            time.sleep(self._random.uniform(0.1, 0.6))

    def _victim(self) -> Worker:
        """A random worker. Another one is started, so that their number stays the same."""
        ready = wait_until(lambda: self._ready, description="a worker is ready")
        self._start_worker()
        return self._random.choice(ready)

    def _kill(self) -> None:
        worker = self._victim()
        self._killed.add(worker.name)
        worker.kill()

    def _stop(self) -> None:
        self._request_stop(self._victim())

    def _request_stop(self, worker: Worker) -> None:
        began = time.monotonic()
        self._stopping.append((worker, began))
        worker.signal(signal.SIGTERM)

        def wait() -> None:
            assert worker.process is not None
            try:
                status: int | None = worker.process.wait(EXIT_BOUND + 30)
            except Exception:  # noqa: BLE001 - None means that it is still running
                status = None
            self._exits[worker.name] = (status, time.monotonic() - began)

        self._waiters.append(threading.Thread(target=wait))
        self._waiters[-1].start()

    def _freeze(self) -> None:
        worker = self._random.choice(wait_until(lambda: self._ready, description="a worker is ready"))
        worker.signal(signal.SIGSTOP)
        try:
            time.sleep(LEASE + self._random.uniform(0.3, 1.0))
        finally:
            worker.signal(signal.SIGCONT)

    def _restart_server(self) -> None:
        self._fleet.server.kill()
        time.sleep(self._random.uniform(0.0, 1.0))
        self._fleet.server.start()

    def _send_bad_messages(self) -> None:
        control = remote_control(self._fleet.settings)
        with self._fleet.server.client() as client:
            for message in self._random.sample(BAD_MESSAGES, 5):
                for queue in ("turns", "turns.rescue"):
                    client.lpush(queue_key(queue), message)
                client.publish(control, message)

    def _flush_broker(self) -> None:
        """Delete all of the broker's data: its messages, and its list of queues."""
        with self._fleet.server.client() as client:
            client.delete(*client.scan_iter(f"{BROKER_PREFIX}*", count=1000), "none")

    def _slow_writes(self) -> None:
        with self._fleet.server.client() as client:
            client.execute_command("CLIENT PAUSE", self._random.randrange(50, 400), "WRITE")

    def _cancel(self) -> None:
        if sent := [a for conversation in self._conversations for a in conversation.sent[-3:] if not a.counts]:
            chosen = self._random.choice(sent)
            chosen.cancelled = True
            self._accepted(lambda: (chosen.turn.cancel(), chosen.turn)[1])

    def _wake_again(self) -> None:
        app = self._fleet.client.connection.dispatcher._app
        for conversation in self._random.sample(self._conversations, len(self._conversations) // 2):
            ref = self._fleet.session(conversation.name).keys.ref
            for _ in range(3):
                publish_wake(app, WakeUp(ref, "turns", self._random.randrange(0, 10**12)))

    # --- invariants -------------------------------------------------------------------------------------

    def check(self) -> None:
        """No turn was lost, repeated or reordered, and no worker hung or crashed without being killed."""
        for conversation in self._conversations:
            if conversation.error is not None:
                raise conversation.error
            self._check_conversation(conversation)
        charges = Counter(line["amount"] for line in self._fleet.ledger("charge"))
        assert max(charges.values(), default=1) == 1, "no charge happened twice"
        self._check_workers()
        assert keys_without_ttl(self._fleet.server) == []

    def _check_conversation(self, conversation: Conversation) -> None:
        succeeded, counted = [], 0
        for sent in conversation.sent:
            record = sent.turn.record()
            allowed = {TurnStatus.SUCCEEDED, TurnStatus.CANCELLED} if sent.cancelled else {TurnStatus.SUCCEEDED}
            assert record.status in allowed, (sent.turn, record.status, record.error)
            events = list(sent.turn.events())
            assert sum(event.type is EventType.ENDED for event in events) == 1, (sent.turn, "has one end")
            # If its worker was killed during the call, the call is in doubt and its change is not committed.
            tallied = [
                e.data["outcome"] for e in events if e.type is EventType.TOOL_RESULT and e.data["tool"] == "tally"
            ]
            counted += sent.counts and tallied == ["ok"]
            if record.status is TurnStatus.SUCCEEDED:
                succeeded.append((sent, record.ended_ms or 0))
                answer = sent.turn.result(timeout=30)
                assert answer == sent.answer, (sent.turn, answer)
        times = [ended for _, ended in succeeded]
        assert times == sorted(times), (conversation.name, "turns end in their order")
        session = self._fleet.session(conversation.name)
        ids = [sent.turn.id for sent, _ in succeeded]
        said = [m.turn_id for m in session.history(limit=100_000) if m.role == "user" and not m.incomplete]
        assert said == ids, (conversation.name, "the history has each turn once, in their order")
        assert session.get_state("n", 0) == counted, (conversation.name, "each call that ended counted once")

    def _check_workers(self) -> None:
        late = {name: exit_ for name, exit_ in self._exits.items() if exit_[0] != 0 or exit_[1] > EXIT_BOUND}
        assert late == {}, f"workers that were told to stop exit with 0 within their bound: {late}"
        for worker in self._fleet.workers:
            for sign in ("Unrecoverable error", "turn_broke", "rescue_broke", "worker_did_not_stop"):
                assert sign not in worker.log, (worker.name, sign, worker.log[-4000:])
            ended_by_itself = worker.name not in self._killed and worker.name not in self._exits
            assert not ended_by_itself, (worker.name, worker.log[-4000:])


def _final(turn: Turn) -> bool:
    try:
        return turn.status.final
    except BackendError:
        return False


def _message(conversation: Conversation, number: int) -> tuple[str, tuple[str, bool]]:
    """The next turn's message, with its expected answer, and whether it increments the state."""
    name, chance = f"{conversation.name}.{number}", conversation.random.random()
    pause = f"SLEEP {conversation.random.uniform(0, 0.4):.2f}\n" if conversation.random.random() < 0.5 else ""
    if chance < 0.3:
        return f'{pause}CALL tally({{"key": "n"}})\nSAY {name}', (name, True)
    if chance < 0.5:
        amount = int(conversation.name.partition("-")[2]) * 1_000_000 + number
        return f'{pause}CALL charge({{"amount": {amount}}})\nSAY {name}', (name, False)
    if chance < 0.65:
        return f'{pause}CALL look_up({{"query": "{name}", "seconds": 0.3}})', (f"ok: {name} found", False)
    if chance < 0.75:
        return f"FAIL 429 1\nSAY {name}", (name, False)
    return f"{pause}SAY {name}", (name, False)
