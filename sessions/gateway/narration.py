"""A turn's events for readers that cannot take anything back, such as the clients of other protocols.

A turn whose worker is lost begins its model request again, and the text that came from the lost one is void
(`attempt_reset`). If the new text begins with the old one, nothing is told until it goes on from there. If it differs,
`Withdrawn` says so once. What is told depends on the events alone, so it is the same whenever they are read again.

The events of a turn come in legs. A leg ends when the turn waits for results of its sender's own tools, or for whatever
else a protocol's clients answer, or has ended: in most protocols, that is one response.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from sessions.api.turn import Turn
from sessions.protocol.call import SENDER, CallKind, denial
from sessions.protocol.event import Event, EventType
from sessions.store.turns import TurnRecord

ASKED: Final = (CallKind.APPROVAL, CallKind.IN_DOUBT)
"""Calls that a person decides about."""


@dataclass(frozen=True, slots=True)
class Said:
    """More of a text: of what the model says, or thinks."""

    text: str
    thought: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was said since the last `Settled` is void; what is said next stands in its place."""

    thought: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """A text is complete."""

    thought: bool = False


@dataclass(frozen=True, slots=True)
class Called:
    """The model called a tool. `kind` is what the turn waits for, if it waits for something (`CallKind`)."""

    call_id: str
    tool: str
    args: Any
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that the turn waited for has its answer: `approve`, `deny` or `provide`.

    Attributes:
        result: what the model receives instead of running the tool: what was provided, or that a person denied it.
    """

    call_id: str
    action: str
    result: Any = None


@dataclass(frozen=True, slots=True)
class Returned:
    """A tool returned, or failed."""

    call_id: str
    tool: str
    result: Any
    outcome: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The turn waits for these calls: those of the sender's own tools, and those for people or others to answer."""

    own: tuple[Called, ...]
    others: tuple[Called, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn has ended; its record has the rest."""

    status: str


Told = Said | Withdrawn | Settled | Called | Answered | Returned | Asked | Ended


class Narrator:
    """Takes a turn's events from its first one on, and tells what they mean."""

    def __init__(self) -> None:
        self._texts = {False: _Text(False), True: _Text(True)}

    def tell(self, event: Event) -> Iterator[Told]:
        """What is new with an event."""
        match event.type:
            case EventType.TEXT_DELTA | EventType.THINKING_DELTA | EventType.TEXT:
                yield from self._say(event)
            case EventType.ATTEMPT_RESET:
                for text in self._texts.values():
                    text.reset(event.data.get("valid_through"))
            case EventType.TOOL_CALL:
                yield from self._settle()
                yield _called(event.data)
            case EventType.TOOL_RESULT:
                yield Returned(event.data["call_id"], event.data["tool"], event.data["result"], event.data["outcome"])
            case EventType.WAITING:
                yield from self._settle()
                calls = event.data["calls"]
                own = tuple(_called(call) for call in calls if call.get("waits_for") == SENDER)
                yield Asked(own, tuple(_called(call) for call in calls if call.get("waits_for") != SENDER))
            case EventType.ANSWERED:
                yield _answered(event.data)
            case EventType.STEERED:
                yield from self._settle()
            case EventType.ENDED:
                yield from self._settle()
                yield Ended(str(event.data["status"]))

    def _say(self, event: Event) -> Iterator[Told]:
        thought = event.type is EventType.THINKING_DELTA
        if not thought:
            yield from self._texts[True].settle()
        yield from self._texts[thought].add(event.id, str(event.data["text"]))
        if event.type is EventType.TEXT:  # a whole one
            yield from self._texts[False].settle()

    def _settle(self) -> Iterator[Told]:
        yield from self._texts[True].settle()
        yield from self._texts[False].settle()


@dataclass(slots=True)
class _Text:
    """A text that is being said. `told` is what readers have of it; `heard` is what is valid of it."""

    thought: bool
    told: str = ""
    heard: list[tuple[tuple[int, int], str]] = field(default_factory=list)
    length: int = 0

    def add(self, at: str, text: str) -> Iterator[Told]:
        begins, self.length = self.length, self.length + len(text)
        self.heard.append((_place(at), text))
        if begins == len(self.told):
            self.told += text
            yield Said(text, self.thought)
        elif self.length <= len(self.told):
            if not self.told.startswith(text, begins):
                yield from self._again()
        elif text.startswith(self.told[begins:]):
            yield Said(text[len(self.told) - begins :], self.thought)
            self.told += text[len(self.told) - begins :]
        else:
            yield from self._again()

    def reset(self, valid_through: str | None) -> None:
        """Forget what a lost attempt said after this event."""
        last = (0, 0) if valid_through is None else _place(valid_through)
        self.heard = [(at, text) for at, text in self.heard if at <= last]
        self.length = sum(len(text) for _, text in self.heard)

    def settle(self) -> Iterator[Told]:
        """The text is complete, if there is one."""
        if self.length < len(self.told):  # the new text ends where the lost one went on
            yield from self._again()
        if self.told:
            yield Settled(self.thought)
        self.told, self.heard, self.length = "", [], 0

    def _again(self) -> Iterator[Told]:
        yield Withdrawn(self.thought)
        self.told = "".join(text for _, text in self.heard)
        if self.told:
            yield Said(self.told, self.thought)


def asks_sender(asked: Asked) -> bool:
    """Whether the turn waits for results of its sender's own tools."""
    return bool(asked.own)


def asks_client(asked: Asked) -> bool:
    """Whether the turn waits for what its sender's client shows: calls of its tools, or requests for approval."""
    return bool(asked.own) or any(call.kind in ASKED for call in asked.others)


async def in_legs(
    events: AsyncIterator[Event], ends: Callable[[Asked], bool] = asks_sender
) -> AsyncIterator[tuple[int, Told]]:
    """What a turn's events tell, from the first one on, each with the number of its leg.

    Args:
        events: all of them, or those so far.
        ends: whether a leg ends with this.
    """
    narrator, leg = Narrator(), 0
    async with aclosing(events):  # type: ignore[type-var] # an async generator
        async for event in events:
            for item in narrator.tell(event):
                yield leg, item
                leg += isinstance(item, Ended) or (isinstance(item, Asked) and ends(item))


async def told(turn: Turn, leg: int = 0) -> AsyncIterator[Told]:
    """What one leg of a turn tells, as it happens: up to `Asked` with calls of the sender's, or to `Ended`.

    Raises:
        TurnNotFound: the turn is gone. BackendError.
    """
    async with aclosing(in_legs(turn.aevents())) as items:  # type: ignore[type-var] # an async generator
        async for number, item in items:
            if number == leg:
                yield item
                if isinstance(item, Ended) or (isinstance(item, Asked) and item.own):
                    return


def typed_content(record: TurnRecord) -> str | None:
    """The text of an answer that has a form of its own, which was not told; None for a plain text."""
    result = json.loads(record.result or b"{}")
    return None if isinstance(result.get("output"), str) else result.get("text")


def arguments_text(args: Any) -> str:
    """A call's arguments as clients get them: the text of a JSON object."""
    return args if isinstance(args, str) else json.dumps(args, ensure_ascii=False)


def _called(data: dict[str, Any]) -> Called:
    return Called(data["call_id"], data["tool"], data["args"], str(data.get("kind") or ""))


def _answered(data: dict[str, Any]) -> Answered:
    action, result = str(data["action"]), data.get("result")
    if action == "deny":
        result = denial(str(data.get("reason") or ""))
    return Answered(data["call_id"], action, result)


def _place(at: str) -> tuple[int, int]:
    token, _, seq = at.partition("-")
    return int(token), int(seq)
