"""Builds turns from the messages of another library: one turn for each thing that the user said.

A tool's result follows its call, as model providers demand. A call without a result, and a result without a call, are
left out and reported.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sessions.transfer.messages import (
    Message,
    Part,
    count_messages,
    request,
    response,
    system_prompt,
    text,
    thinking,
    tool_call,
    tool_return,
    user_prompt,
)
from sessions.transfer.records import PastTurn

DEFAULT_AGENT = "Assistant"


class LeftOut:
    """What an import cannot carry over, counted."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, what: str, times: int = 1) -> None:
        """Report something."""
        self._counts[what] += times

    def clear(self) -> None:
        """Forget what was reported: the file is read again."""
        self._counts.clear()

    @property
    def lines(self) -> tuple[str, ...]:
        """What was reported, with how often."""
        return tuple(what if times == 1 else f"{what} ({times} times)" for what, times in self._counts.items())


class Conversation:
    """Takes messages in their order, and gives turns.

    Args:
        identity: of the conversation; the ids of its turns are derived from it.
        left_out: where to report what cannot be carried over.
        agent: the agent of turns for which the library names none.
    """

    def __init__(self, identity: str, left_out: LeftOut, agent: str) -> None:
        self._identity = identity
        self._left_out = left_out
        self._default_agent = agent
        self._number = 0
        self._agent = agent
        self._begin()

    def _begin(self) -> None:
        self._messages: list[Message] = []
        self._calls: dict[str, str] = {}
        self._answered: set[str] = set()

    # --- what was said ----------------------------------------------------------------------------------

    def user(self, content: str | list[Any], at_ms: int) -> Iterator[PastTurn]:
        """The user said something; yields the turn before it, if that has ended."""
        if any(message["kind"] == "response" for message in self._messages):
            yield from self.end()
        self._to_model(user_prompt(content, at_ms), at_ms)

    def system(self, content: str, at_ms: int) -> Iterator[PastTurn]:
        """Instructions; yields the turn before them, if that has ended."""
        if any(message["kind"] == "response" for message in self._messages):
            yield from self.end()
        self._to_model(system_prompt(content, at_ms), at_ms)

    def assistant(self, content: str, at_ms: int, *, agent: str | None = None, model: str | None = None) -> None:
        """The model said something."""
        if content:
            self._of_model(text(content), at_ms, agent, model)

    def thought(self, content: str, at_ms: int, *, agent: str | None = None) -> None:
        """The model thought something."""
        if content:
            self._of_model(thinking(content), at_ms, agent, None)

    def call(self, name: str, call_id: str, args: Any, at_ms: int, *, agent: str | None = None) -> None:
        """The model called a tool."""
        if call_id in self._calls:
            self._left_out.add(f"a second call of a tool under the id of another one ({name})")
            return
        self._calls[call_id] = name
        self._of_model(tool_call(name, call_id, args), at_ms, agent, None)

    def result(self, call_id: str, content: Any, at_ms: int) -> None:
        """A tool returned."""
        if call_id not in self._calls or call_id in self._answered:
            self._left_out.add("a tool's result without its call")
            return
        self._answered.add(call_id)
        self._to_model(tool_return(self._calls[call_id], call_id, content, at_ms), at_ms)

    # --- turns ------------------------------------------------------------------------------------------

    def end(self) -> Iterator[PastTurn]:
        """The turn that is open, if there is one."""
        self._drop_unanswered()
        if not self._messages:
            self._begin()
            return
        self._number += 1
        complete = self._messages[-1]["kind"] == "response"
        yield PastTurn(
            turn=hashlib.sha256(f"{self._identity}\0{self._number}".encode()).hexdigest()[:32],
            agent=self._agent,
            at_ms=self._at_ms,
            count=count_messages(self._messages),
            incomplete="" if complete else "failed",
            messages=self._messages,
        )
        self._agent = self._default_agent
        self._begin()

    def _drop_unanswered(self) -> None:
        for call_id in self._calls.keys() - self._answered:
            self._left_out.add(f"a call of a tool that has no result ({self._calls[call_id]})")
            for message in self._messages:
                message["parts"] = [part for part in message["parts"] if not _is_call(part, call_id)]
        self._messages = [message for message in self._messages if message["parts"]]

    def _to_model(self, part: Part, at_ms: int) -> None:
        if not self._messages:
            self._at_ms = at_ms
        if self._messages and self._messages[-1]["kind"] == "request":
            self._messages[-1]["parts"].append(part)
        else:
            self._messages.append(request([part], at_ms))

    def _of_model(self, part: Part, at_ms: int, agent: str | None, model: str | None) -> None:
        if not self._messages:
            self._at_ms = at_ms
        self._agent = agent or self._agent
        # After a call its results come first, so a text that follows a call belongs to the same response.
        if self._messages and self._messages[-1]["kind"] == "response":
            self._messages[-1]["parts"].append(part)
        else:
            self._messages.append(response([part], at_ms, model))


def _is_call(part: Part, call_id: str) -> bool:
    return bool(part["part_kind"] == "tool-call" and part["tool_call_id"] == call_id)
