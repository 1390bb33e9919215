"""`make demo`: a worker is killed in the middle of a turn, twice, and the conversation continues.

    python examples/demo.py [--model provider:model]

Exits with 0 only if every line with a check mark held.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from demo_fleet import DemoFailed, DemoFleet, wait_for
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from broker_config.embedded import EmbeddedServerError
from broker_config.printable import printable
from sessions import Agent, EventType, Session, SessionfleetError, Turn

TURN_SECONDS = 600.0
ANSWER_CHARS = 80
INSTRUCTIONS = (
    "You are the assistant of a small shop. Use the tool charge_card to charge a card. Never call it twice for one "
    "request: when its outcome is unknown, do not try again, but say so."
)
NAME = "My name is Alice."
ASK_NAME = "What is my name?"

Line = dict[str, Any]


class ToolNotCalled(Exception):
    """A real model answered without calling the tool."""


@dataclass
class Story:
    """One turn: the message, the workers that ran it, the answer."""

    title: str
    message: str
    workers: list[str] = field(default_factory=list)
    answer: str = ""
    resumed_after: float | None = None


class Demo:
    """The conversation, and the checks on it."""

    def __init__(self, model: str, fleet: DemoFleet, console: Console) -> None:
        self.offline = model == "offline"
        self.failures: list[str] = []
        self.stories: list[Story] = []
        self._fleet = fleet
        self._console = console
        session = Session("demo", user_id="alice", settings=fleet.settings)
        self._agent: Agent = session.Agent("Shop", instructions=INSTRUCTIONS, tools=["charge_card"], model="counted")

    def run(self) -> None:
        """Four turns of one session; two of them lose their worker."""
        self._tell("1", f"Someone says: {NAME!r}")
        self._turn("told its name", NAME)

        self._tell("2", "A turn charges a card. When the charge is done, its worker is killed with SIGKILL.")
        story, turn = self._killed("killed after the tool", 12, self._behind_the_tool)
        self._check_killed(story, turn, euros=12)

        self._fleet.start_worker("worker-3")
        self._fleet.await_workers()
        self._tell(
            "3", "Another charge (a third worker has taken the dead one's place). Now the kill hits the tool itself."
        )
        story, turn = self._killed("killed inside the tool", 30, self._inside_the_tool)
        self._check_killed(story, turn, euros=30)
        results = [e for e in turn.events() if e.type is EventType.TOOL_RESULT]
        doubted = bool(results) and results[0].data.get("outcome") == "unknown"
        self._check(doubted, "the call is in doubt: it was not repeated, and the model was told so")

        self._tell("4", f"Someone asks: {ASK_NAME!r}")
        story, _ = self._turn("asked for the name", ASK_NAME)
        known = "alice" in story.answer.lower()
        if self.offline:
            self._check(known, "the name is known, after two kills")
        else:
            self._say(f"the model {'knows the name' if known else 'did not say the name'}: {story.answer!r}")
        self._check(not self._repeated(), "in all turns: no model request was made again after it had been answered")

    def _killed(self, title: str, euros: int, kill: Callable[[Turn], None]) -> tuple[Story, Turn]:
        """A turn that calls the tool and loses its worker; a real model that does not call it is asked again."""
        for message in self._requests_to_charge(euros):
            try:
                return self._turn(title, message, kill)
            except ToolNotCalled as error:
                self.stories.pop()
                self._say(f"the model did not call the tool, so it is asked again; it said: {str(error)!r}")
        raise DemoFailed("the model never called the tool charge_card; try a model that is better at using tools")

    def _turn(self, title: str, message: str, kill: Callable[[Turn], None] | None = None) -> tuple[Story, Turn]:
        story = Story(title, message)
        self.stories.append(story)
        turn = self._agent.submit(message, timeout=TURN_SECONDS)
        killed_at = 0.0
        for event in turn.events():
            if event.type in (EventType.STARTED, EventType.ATTEMPT_RESET):
                story.workers.append(str(event.data["worker"]).partition("@")[0])
            if event.type is EventType.STARTED and kill is not None:
                kill(turn)
                killed_at = self._kill_worker_of(turn)
            if event.type is EventType.ATTEMPT_RESET and killed_at and story.resumed_after is None:
                story.resumed_after = time.monotonic() - killed_at
                self._say(f"{story.workers[-1]} resumes the turn, {story.resumed_after:.1f} s after the kill")
        story.answer = str(turn.result(timeout=10)).partition("\n\n(This is the offline model")[0]
        self._say(f"{story.workers[-1]} answers: {story.answer}")
        return story, turn

    def _kill_worker_of(self, turn: Turn) -> float:
        worker = str(turn.record().worker)
        pid = self._fleet.pid_of(worker)
        self._fleet.kill(pid)
        self._say(f"kill -9 {pid} ({worker.partition('@')[0]}, which runs turn {turn.id})")
        return time.monotonic()

    def _behind_the_tool(self, turn: Turn) -> None:
        """Wait until the tool's result is in the journal, and the model is thinking about it."""
        self._await_line(turn, "asked", step=2)

    def _inside_the_tool(self, turn: Turn) -> None:
        """Wait until the tool has taken effect but has not returned."""
        self._await_line(turn, "charged")

    def _await_line(self, turn: Turn, kind: str, **what: Any) -> None:
        def look() -> bool:
            if turn.status.final and not self._ledger("charged", turn=turn.id):
                raise ToolNotCalled(str(turn.result(timeout=10)))
            return bool(self._ledger(kind, turn=turn.id, **what))

        wait_for(look, f"{kind} {what}", TURN_SECONDS)

    def _check_killed(self, story: Story, turn: Turn, *, euros: int) -> None:
        self._check(
            len(story.workers) == 2 and story.workers[0] != story.workers[1],
            f"{story.workers[-1]} finished the turn of {story.workers[0]}, as its attempt {turn.attempt}",
        )
        charges = self._ledger("charged", turn=turn.id)
        times = Counter(line["call"] for line in charges)
        self._check(
            bool(times) and max(times.values()) == 1,
            f"the tool ran once: {len(charges)} charge of {euros} euros in the ledger",
        )
        if len(times) > 1:
            self._say(f"the model itself asked for {len(times)} charges, and each was made once")
        self._check(not self._repeated(turn.id), "no finished model request was repeated: " + self._requests(turn))

    def _requests(self, turn: Turn) -> str:
        asked, answered = self._ledger("asked", turn=turn.id), self._ledger("answered", turn=turn.id)
        cut = len(asked) - len(answered)
        usage = turn.record().usage
        counted = f"the turn's usage says {usage.requests if usage else 0} requests"
        return f"{counted}, {len(answered)} answered" + (
            f", {cut} interrupted by the kill and sent again" if cut else ""
        )

    def _repeated(self, turn_id: str | None = None) -> list[Line]:
        """Requests that were sent to the model although the same one had been answered."""
        answered, repeated = set(), []
        for line in self._ledger():
            if turn_id in (None, line["turn"]) and line["kind"] in ("asked", "answered"):
                which = (line["turn"], line["step"])
                if line["kind"] == "answered":
                    answered.add(which)
                elif which in answered:
                    repeated.append(line)
        return repeated

    def _requests_to_charge(self, euros: int) -> list[str]:
        """The offline model calls a tool when a message says so in these words; a real one understands the sentence."""
        sentence = f"Please charge {euros} euros to my card."
        if self.offline:
            return [f'{sentence} CALL charge_card({{"euros": {euros}}})']
        return [sentence, sentence, f"Call the tool charge_card with euros={euros}."]

    def _ledger(self, kind: str | None = None, **what: Any) -> list[Line]:
        path = self._fleet.ledger
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if kind in (None, line["kind"]) and what.items() <= line.items()]

    def _check(self, held: bool, what: str) -> None:
        self._console.print(f"   [green]✓[/] {shown(what)}" if held else f"   [red]✗ not so:[/] {shown(what)}")
        if not held:
            self.failures.append(what)

    def _say(self, line: str) -> None:
        self._console.print(f"   · {shown(line)}")

    def _tell(self, number: str, line: str) -> None:
        self._console.print(f"\n[bold]{number}[/]  {shown(line)}")

    def print_table(self) -> None:
        """Which worker answered which message."""
        table = Table(title="\nOne session, four turns, three workers, two kills", title_justify="left")
        for column in ("turn", "message", "began at", "answered by", "kill to resumption", "answer"):
            table.add_column(column, overflow="fold")
        for story in self.stories:
            resumed = "" if story.resumed_after is None else f"{story.resumed_after:.1f} s"
            began, ended = story.workers[0], story.workers[-1]
            cells = (story.title, story.message, began, ended, resumed, shortened(story.answer))
            table.add_row(*map(shown, cells))
        self._console.print(table)


def shown(text: str) -> str:
    """A text that is safe for rich to print, since a real model may answer anything: no markup, no control codes."""
    return escape(printable(text))


def shortened(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= ANSWER_CHARS else text[: ANSWER_CHARS - 1] + "…"


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description="Kill workers in the middle of turns, and see the turns end.")
    parser.add_argument("--model", default="offline", help="provider:model; by default a model that needs no key")
    model = parser.parse_args().model
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(f"[bold]Sessionfleet demo[/]: a server and two workers in a temporary home, model {shown(model)}")
    fleet = DemoFleet("demo_shop", {"DEMO_MODEL": model})
    try:
        demo = _play(model, fleet, console)
    except (DemoFailed, SessionfleetError, EmbeddedServerError) as error:
        console.print(f"[red]the demo failed:[/] {shown(str(error))}")
        return 1
    finally:
        left = fleet.close()
        console.print(f"everything stopped{f', except processes {left}' if left else ''}")
    if demo.failures or left:
        console.print(f"[red]{len(demo.failures)} of the promises did not hold[/]")
        return 1
    console.print("[green]all of it held[/]")
    return 0


def _play(model: str, fleet: DemoFleet, console: Console) -> Demo:
    fleet.start_server()
    for name in ("worker-1", "worker-2"):
        fleet.start_worker(name)
    for name, info in sorted(fleet.await_workers().items()):
        console.print(f"   · {name} is ready (process {info.pid})")
    demo = Demo(model, fleet, console)
    demo.run()
    demo.print_table()
    return demo


if __name__ == "__main__":
    sys.exit(main())
