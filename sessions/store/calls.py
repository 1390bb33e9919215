"""The calls that a turn waits for, as a client sees them: list and answer them. The first answer counts."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from sessions.errors import BadRequest, CallAnswered, CallNotFound, CorruptRecord, TurnNotFound
from sessions.protocol.call import CallAnswer, CallKind, WaitingCall
from sessions.protocol.event import SHOWN_CHARS, EventType
from sessions.store.binding import ScriptCall
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.transitions import turns as transitions
from sessions.store.transitions.shared import Missing
from sessions.store.wake_up import WakeUp

_ACTIONS: Final = {
    CallKind.APPROVAL: ("approve", "deny"),
    CallKind.RESULT: ("provide", "deny"),
    CallKind.IN_DOUBT: ("approve", "provide", "deny"),
}


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A tool call that a turn waits for.

    Attributes:
        kind: `approval` (approve or deny it), `result` (provide it) or `in_doubt` (a worker died while it ran:
            approve runs it again, provide supplies its result, deny says that the outcome is unknown).
        metadata: what the tool says about it; waits_for: what will bring the result, if the tool names it.
    """

    call_id: str
    tool: str
    args: Any
    kind: str
    metadata: dict[str, Any]
    waits_for: str | None


@dataclass(frozen=True, slots=True)
class WaitingTurn:
    """A turn that waits for answers, since a time and until its wait runs out (ms since the epoch)."""

    part: str
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to a call of `tool` counts. `wake_up` is set when the turn can resume: publish it."""

    tool: str
    wake_up: WakeUp | None = None


class CallStore:
    """Pending calls in the store."""

    def __init__(self, scripts: ScriptRunner, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._keyring = keyring

    async def pending(self, keys: SessionKeys, part: str) -> list[PendingCall]:
        """The calls without an answer, in the order in which they were made.

        Raises:
            TurnNotFound: there is no such turn.
        """
        calls, answers = await self._read(keys, part)
        return [
            PendingCall(a.call_id, a.tool, a.args, a.kind.value, a.metadata, a.waits_for)
            for a in calls
            if a.key not in answers
        ]

    async def waiting(self, keys: SessionKeys) -> list[WaitingTurn]:
        """The turns of a session that wait for answers, the one that waits longest first."""
        parts = [name.decode() for name in await self._scripts.read("ZRANGE", keys.waiting, 0, -1)]
        since, until = await asyncio.gather(
            asyncio.gather(*(self._scripts.read("HGET", keys.turn(part), "waited_from") for part in parts)),
            asyncio.gather(*(self._scripts.read("ZSCORE", keys.waiting, part) for part in parts)),
        )
        found = [
            WaitingTurn(part, int(began), int(float(ends)))
            for part, began, ends in zip(parts, since, until, strict=True)
            if began is not None and ends is not None
        ]
        return sorted(found, key=lambda turn: turn.since_ms)

    async def answer(self, keys: SessionKeys, part: str, call_id: str, answer: CallAnswer) -> Answered:
        """Answer a call; repeating the same answer changes nothing.

        Raises:
            CallNotFound: the turn waits for no such call. CallAnswered: another answer came first.
            BadRequest: this kind of call cannot be answered in this way. TurnNotFound: there is no such turn.
        """
        calls, answers = await self._read(keys, part)
        call = _chosen([a for a in calls if a.call_id == call_id], answers)
        if call is None:
            raise self._unknown(keys, part, call_id, [a.call_id for a in calls if a.key not in answers])
        if answer.action not in _ACTIONS[call.kind]:
            allowed = " or ".join(f"{action}()" for action in _ACTIONS[call.kind])
            raise BadRequest(f"call {call_id!r} of {call.tool!r} waits for {call.kind.value!r}: use {allowed}")
        match await self._scripts.run(self._answering(keys, part, call, answer)):
            case transitions.Answered(wake=wake, queue=queue, now_ms=now_ms):
                return Answered(call.tool, WakeUp.of(keys, queue, now_ms) if wake else None)
            case transitions.Same():
                return Answered(call.tool)
            case transitions.Other(answer=stored):
                first = CallAnswer.model_validate_json(
                    self._keyring.open(keys.journal(part), _answer_field(call), stored)
                )
                if first == answer:  # the same answer encrypted twice differs for the script
                    return Answered(call.tool)
                raise CallAnswered(
                    f"call {call_id!r} of {call.tool!r}: {CallAnswered.__doc__} (it was {first.action!r})"
                )
            case Missing():
                raise self._no_turn(keys, part)
            case transitions.Unknown() | transitions.Ended():
                raise self._unknown(keys, part, call_id, [])

    def _answering(
        self, keys: SessionKeys, part: str, call: WaitingCall, answer: CallAnswer
    ) -> ScriptCall[transitions.AnswerReply]:
        shown = {"call_id": call.call_id, "tool": call.tool, "action": answer.action, "reason": answer.reason}
        if answer.action == "provide":
            shown["result"] = _shown_result(answer.result)
        stored = answer.model_dump_json().encode()
        return transitions.answer_call(
            keys.pair,
            turn=part,
            call=call.key,
            answer=self._keyring.seal(keys.journal(part), _answer_field(call), stored),
            event=self._keyring.seal(keys.events(part), EventType.ANSWERED, json.dumps(shown).encode()),
        )

    async def _read(self, keys: SessionKeys, part: str) -> tuple[list[WaitingCall], set[str]]:
        journal = await self._scripts.read("HGETALL", keys.journal(part))
        if not journal and not await self._scripts.read("EXISTS", keys.turn(part)):
            raise self._no_turn(keys, part)
        try:
            opened = [
                self._keyring.open(keys.journal(part), field.decode(), value)
                for field, value in journal.items()
                if field.startswith(b"ask:")
            ]
            calls = sorted((WaitingCall.model_validate_json(value) for value in opened), key=_made)
        except ValidationError as error:
            raise CorruptRecord(f"a pending call of turn {part} cannot be read: {error}") from error
        answers = {k.decode().removeprefix("answer:") for k in journal if k.startswith(b"answer:")}
        return calls, answers

    @staticmethod
    def _no_turn(keys: SessionKeys, part: str) -> TurnNotFound:
        return TurnNotFound(f"turn {keys.public_id(part)!r}: {TurnNotFound.__doc__}")

    @staticmethod
    def _unknown(keys: SessionKeys, part: str, call_id: str, pending: list[str]) -> CallNotFound:
        listed = ", ".join(map(repr, pending)) or "none"
        return CallNotFound(f"turn {keys.public_id(part)!r} does not wait for call {call_id!r}; it waits for: {listed}")


def _answer_field(call: WaitingCall) -> str:
    return f"answer:{call.key}"


def _chosen(calls: list[WaitingCall], answers: set[str]) -> WaitingCall | None:
    """Of calls in the order in which they were made: the latest one without an answer, otherwise the latest.

    Providers reuse call ids.
    """
    unanswered = [call for call in calls if call.key not in answers]
    found = unanswered or calls
    return found[-1] if found else None


def _made(call: WaitingCall) -> tuple[int, int]:
    """Sorts calls by when they were made: by the model's request, whose number begins their keys, then by position."""
    return int(call.key.partition(":")[0]), call.place


def _shown_result(result: Any) -> Any:
    """A provided result for an event, as those of other tools: the value if it is short, else its text's beginning."""
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    return result if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"
