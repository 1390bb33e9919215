"""The command line talking to workers that run: cancelled, failing and typed conversations, and one more worker."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker_config.settings import Settings
from sessions import Session
from sessions.errors import EmbeddedServerError
from sessions.fleet.autostart import ensure_fleet, stop_fleet
from sessions.fleet.home import FleetHome
from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet
from tests.support.servers import Server
from tests.support.waiting import PROGRAM_START, wait_until

CLI = [sys.executable, "-W", "ignore", "-m", "sessions.cli.main"]


def environment(url: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
    return {**kept, "REDIS_URL": url, "PYTHONPATH": str(ROOT), **more}


def statuses(fleet: Fleet, session_id: str) -> list[str]:
    session = Session(session_id, settings=fleet.settings)

    async def listed() -> list[str]:
        await session.client.open()  # this may be the first test that uses this process's client
        return await session.client.stores.turns.listed(session.keys)

    parts = session.client.portal.call(listed())
    return [session.turn(session.keys.public_id(part)).status for part in parts]


def test_ctrl_c_cancels_the_running_turn(fleet: Fleet) -> None:
    """On its worker too; the command exits with the status of an interrupted program."""
    message = "SLEEP 60\nSAY cli-cancel"
    command = [*CLI, "chat", "cli-cancel", "--message", message]
    with subprocess.Popen(command, env=environment(fleet.server.url), stdout=subprocess.PIPE, text=True) as chat:
        fleet.noted("model_started", prompt=message)
        chat.send_signal(signal.SIGINT)
        said, _ = chat.communicate(timeout=20)
    assert chat.returncode == 130
    assert "(cancelled)" in said
    wait_until(lambda: statuses(fleet, "cli-cancel") == ["cancelled"], description="the turn is cancelled")


def test_a_turn_that_fails_is_an_error_of_the_command(fleet: Fleet) -> None:
    """Scripts that call `chat` see it by the exit status, people by one line."""
    message = "FAIL 400 99\nSAY cli-fail"
    done = preloaded.run(
        [*CLI, "chat", "cli-fail", "--message", message],
        env=environment(fleet.server.url), timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in done.stderr


class Typist:
    """A terminal in which a program runs."""

    def __init__(self, command: list[str], env: dict[str, str], term: str = "dumb") -> None:
        self._master, slave = pty.openpty()
        self.process = preloaded.start(
            command, env={**env, "TERM": term}, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def sees(self, text: str, count: int = 1) -> None:
        wait_until(lambda: self._read().count(text) >= count, description=f"{text!r} on the screen: {self.seen!r}")

    def _read(self) -> str:
        with contextlib.suppress(OSError):  # nothing to read now, or never again
            self.seen += os.read(self._master, 65536).decode(errors="replace")
        return self.seen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_a_typed_conversation_goes_on_after_a_cancelled_turn(fleet: Fleet) -> None:
    """Ctrl-C ends the turn, not the conversation; /quit ends that."""
    terminal = Typist([*CLI, "chat", "cli-typed"], environment(fleet.server.url))
    try:
        terminal.sees("you> ")
        terminal.type("SAY typed-hello\n")
        terminal.sees("you> ", count=2)
        terminal.type("SLEEP 61.5\n")
        fleet.noted("model_started", prompt="SLEEP 61.5")
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.sees("(cancelled)")
        terminal.type("SAY typed-again\n")
        terminal.sees("typed-again", count=2)
        terminal.sees("you> ", count=4)
        terminal.type("/quit\n")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()
    assert statuses(fleet, "cli-typed") == ["succeeded", "cancelled", "succeeded"]


def test_a_chat_begins_with_the_answer_that_is_being_written(fleet: Fleet) -> None:
    """Somebody left in the middle of it, or asked from elsewhere: the question, the answer as it comes, the prompt."""
    message = "SAY one two three\nPACE 0.1\nSTALL 2 60"
    turn = fleet.session("cli-again").Agent("Assistant").submit(message, stream=True)
    fleet.noted("stalled", prompt=message)
    command = [*CLI, "turns", "list", "cli-again", "--open", "--json"]
    env = environment(fleet.server.url)
    listed = preloaded.run(command, env=env, timeout=60, check=True)
    assert [found["turn"] for found in json.loads(listed.stdout)] == [turn.id]
    terminal = Typist([*CLI, "chat", "cli-again"], env)
    try:
        terminal.sees("has not ended")
        terminal.sees("you> SAY one two three")
        terminal.sees("\none two")
        turn.cancel()
        terminal.sees("cancelled by a client")
        terminal.sees("you> ", count=2)
        terminal.type("/quit\n")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()


REFUND = 'CALL refund({"amount": 90})'


def test_a_chat_asks_about_the_calls_of_its_tools(fleet: Fleet) -> None:
    """With the arguments, which can be changed. It shows that something goes on, and later what was said before."""
    command = [*CLI, "chat", "cli-asks", "--agent", "Clerk", "--tool", "refund"]
    terminal = Typist(command, environment(fleet.server.url), term="xterm")
    try:
        terminal.sees("You are talking to Clerk.")
        terminal.type("SLEEP 1\n")
        terminal.sees("thinking")
        terminal.sees("you> ", count=2)
        terminal.type(f"{REFUND}\n")
        terminal.sees("allow it?")
        terminal.type("perhaps\n")
        terminal.sees("'perhaps' is not an answer")
        terminal.type('e {"amount": 60}\n')
        terminal.sees("ok: refunded 60")
        terminal.type("/help\n")
        terminal.sees("/pending")
        terminal.type("//SAY a literal slash\n")
        terminal.sees("you> ", count=5)
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.process.wait(20) == 0, "where no turn runs, Ctrl-C leaves"
    finally:
        terminal.close()
    again = Typist(command, environment(fleet.server.url))
    try:
        again.sees(f"you> {REFUND}")
        again.sees("you> /SAY a literal slash")
        again.sees("Clerk> ok: refunded 60")
    finally:
        again.close()
    assert statuses(fleet, "cli-asks") == ["succeeded"] * 3


def test_a_chat_regenerates_and_edits(fleet: Fleet) -> None:
    """The new answer is shown like any other; without something to replace, the chat says so."""

    def piped(lines: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run(
            [*CLI, "chat", "cli-edits"], input=lines, env=environment(fleet.server.url),
            timeout=60,
        )  # fmt: skip

    nothing = piped("/regenerate\n")
    assert (nothing.returncode != 0, "no committed turn" in nothing.stderr) == (True, True)
    done = piped("SAY one\n/regenerate\n/edit SAY two\n/history\n")
    assert done.returncode == 0, done
    session = fleet.session("cli-edits")
    assert [message.text for message in session.history()] == ["SAY two", "two"]
    assert len(session.branches()) == 2
    assert done.stdout.count("one") >= 2
    assert "enter the new message" in piped("/edit\n").stderr
    last = session.history().messages[0].turn_id
    command = [*CLI, "turns", "delete", last]
    gone = preloaded.run(command, env=environment(fleet.server.url), timeout=60, check=True)
    assert "2 messages" in gone.stdout
    assert list(session.history()) == []


def test_a_chat_without_a_terminal_reads_answers_where_it_reads_messages(fleet: Fleet) -> None:
    """Where they end, it does not hang: the turn waits on, and the command that answers it is shown."""

    def piped(lines: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run(
            [*CLI, "chat", "cli-piped", "--tool", "refund"], input=lines,
            env=environment(fleet.server.url), timeout=60,
        )  # fmt: skip

    done = piped(f"{REFUND}\nno not that much\n")
    assert (done.returncode, "denied" in done.stdout) == (0, True)
    left = piped(f"{REFUND}\n")
    assert left.returncode == 1
    assert "sessionfleet turns approve|deny cli-piped~" in left.stdout
    assert statuses(fleet, "cli-piped") == ["succeeded", "waiting"]
    done = piped("/pending\ny\n")
    assert (done.returncode, "ok: refunded 90" in done.stdout) == (0, True), done
    assert "/pending shows the question" in done.stdout, "a message behind it would wait without a word"
    assert "no command '/nope'" in piped("/nope\n").stderr


def test_a_chat_sends_files(fleet: Fleet, tmp_path: Path) -> None:
    """`/attach` uploads a file for the next message, and no other; a wrong path is an error that names it."""
    (tmp_path / "heron.png").write_bytes(b"\x89PNG heron")

    def piped(lines: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run(
            [*CLI, "chat", "cli-files"], input=lines,
            env=environment(fleet.server.url), timeout=60,
        )  # fmt: skip

    done = piped(f"/attach {tmp_path / 'heron.png'}\nSAY cli-one\nSAY cli-two\n")
    assert done.returncode == 0, done.stderr
    assert "heron.png (image/png, 10 bytes) goes with the next message" in done.stdout
    (one,), (two,) = (fleet.ledger("model_started", prompt=f"SAY cli-{name}") for name in ("one", "two"))
    assert one["files"][0].startswith("heron.png image/png")
    assert two["files"] == one["files"], "sent again with the history"
    history = [message.text for message in Session("cli-files", settings=fleet.settings).history()]
    assert history[0] == "SAY cli-one [image heron.png]"
    assert history[2] == "SAY cli-two"
    assert "there is no file 'missing.png'" in piped("/attach missing.png\n").stderr


def test_one_more_worker_joins_and_leaves(new_fleet: Callable[..., Fleet]) -> None:
    """`sessionfleet worker` is a worker like any other; SIGTERM ends it in order."""
    fleet = new_fleet()
    command = [*CLI, "worker", "--name", "byhand", "--queues", "turns,vip", "--concurrency", "3"]
    with (fleet.folder / "worker.log").open("wb") as log:
        worker = preloaded.start(command, env=environment(fleet.server.url), stdout=log, stderr=log)
    try:
        wait_until(fleet.registered, description="the worker is registered", timeout=PROGRAM_START)
        (info,) = fleet.registered()
        assert info.id.startswith("byhand@")
        assert (info.pid, info.concurrency, info.queues) == (worker.pid, 3, ("turns", "turns.vip"))
        answer = fleet.session("joined", queue="vip").Agent().chat("hello", timeout=20)
        assert "hello" in answer
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.wait(20) == 0
        assert fleet.registered() == []
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def test_up_with_an_address_runs_workers_only(new_server: Server, tmp_path: Path) -> None:
    """The store is the one at REDIS_URL; a script of this home without that URL gets an error that says so."""
    home = FleetHome(tmp_path / "home")
    with (tmp_path / "up.log").open("wb") as log:
        up = preloaded.start(
            [*CLI, "up", "--workers", "1", "--no-gateway", "--home", str(home.path)],
            env=environment(new_server.url), cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(
            lambda: (record := home.running()) and record.state == "ready",
            description="the fleet is ready",
            timeout=60,
        )
        assert not (home.path / "server.sock").exists()
        with pytest.raises(EmbeddedServerError, match="set the same REDIS_URL here"):
            ensure_fleet(Settings(redis_url=None, autostart=True, home=home.path))
    finally:
        stop_fleet(home.path)
        assert up.wait(30) == 0
