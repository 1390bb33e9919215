"""An answer as parts of the UI message stream protocol, version 1, made of its turn's events alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Request

from sessions.errors import SessionfleetError
from sessions.gateway.narration import (
    ASKED,
    Answered,
    Asked,
    Called,
    Ended,
    Returned,
    Said,
    Settled,
    Told,
    Withdrawn,
    asks_client,
    typed_content,
)
from sessions.gateway.streams import Data
from sessions.gateway.strict_json import written
from sessions.gateway.vercel.errors import in_stream
from sessions.gateway.vercel.ids import answer_id, approval_id
from sessions.gateway.vercel.responses import about
from sessions.gateway.vercel.turns import Answer
from sessions.protocol.turn import TurnStatus, Usage
from sessions.store.turns import TurnRecord

HEADERS: Final = {"x-vercel-ai-ui-message-stream": "v1"}
_DONE: Final = "[DONE]"
_REASONS: Final = {"stop": "stop", "length": "length", "content_filter": "content-filter"}
_WITHDRAWN: Final = {"sessionfleet": {"withdrawn": True}}
"""In the metadata of a text that a lost worker had begun, and that the new worker's model did not repeat."""

Made = dict[str, Any]


async def parts(request: Request, answer: Answer) -> AsyncGenerator[Data]:
    """The parts of an answer from a leg on, as they come, up to its end or to what the page must answer.

    What was withdrawn before the page came is not sent.
    """
    try:
        async with aclosing(_parts(answer)) as made:
            async for part in made:
                yield None, written(part)
    except SessionfleetError as error:
        yield None, written(in_stream(request, error))
    yield None, _DONE


async def _parts(answer: Answer) -> AsyncGenerator[Made]:
    asked = await answer.request()
    record = await answer.turn.arecord()
    own = frozenset(tool.name for tool in asked.additions.tools) if asked.additions else frozenset[str]()
    maker = PartMaker(own, answer.leg)
    void, place = await _void(answer), -1
    yield {
        "type": "start",
        "messageId": answer_id(answer.part),
        "messageMetadata": about(answer.turn.id, asked.agent, record.accepted_ms),
    }
    async with aclosing(answer.told()) as items:  # type: ignore[type-var] # an async generator
        async for leg, item in items:
            place += 1
            if leg < answer.leg:
                maker.earlier(item)
            elif place not in void:
                for part in maker.feed(item, leg):
                    yield part
                if isinstance(item, Asked) and asks_client(item) and await answer.waits_for(item):
                    yield maker.finish("tool-calls", None)
                    return
                if isinstance(item, Ended):
                    break
    async for part in _end(answer, maker):
        yield part


async def _void(answer: Answer) -> set[int]:
    """The places of what was told, and withdrawn since."""
    void: set[int] = set()
    saying: dict[bool, list[int]] = {False: [], True: []}
    place = -1
    async with aclosing(answer.told_so_far()) as items:  # type: ignore[type-var] # an async generator
        async for _, item in items:
            place += 1
            match item:
                case Said(thought=thought):
                    saying[thought].append(place)
                case Withdrawn(thought=thought):
                    void |= {*saying[thought], place}
                    saying[thought] = []
                case Settled(thought=thought):
                    saying[thought] = []
    return void


async def _end(answer: Answer, maker: PartMaker) -> AsyncGenerator[Made]:
    record = await answer.turn.arecord()
    if record.status is TurnStatus.CANCELLED:
        yield {"type": "abort", "reason": "The turn was cancelled."}
        return
    await answer.turn.aresult()  # raises what ended the turn
    if (text := typed_content(record)) is not None:
        for part in (*maker.feed(Said(text), answer.leg), *maker.feed(Settled(), answer.leg)):
            yield part
    for part in maker.close_step():
        yield part
    yield maker.finish(_REASONS.get(record.finish_reason or "stop", "other"), record)


@dataclass(slots=True)
class PartMaker:
    """Makes the parts of one answer. Each response of the model is a step, with the calls that it made.

    Attributes:
        own: names of the page's tools. The agent's own run on the workers: the page only shows them.
        leg: the first leg that is told.
    """

    own: frozenset[str]
    leg: int
    step: bool = False
    returned: bool = False
    count: int = 0
    texts: dict[bool, str] = field(default_factory=dict)
    calls: set[str] = field(default_factory=set)

    def earlier(self, item: Told) -> None:
        """Take what an earlier leg told: its calls may return in this one."""
        if isinstance(item, Called):
            self.calls.add(item.call_id)

    def feed(self, item: Told, leg: int) -> Iterator[Made]:
        """The parts for what is told."""
        match item:
            case Said():
                yield from self._say(item)
            case Settled(thought=thought):
                yield from self._close(thought)
            case Withdrawn(thought=thought):
                yield from self._close(thought, providerMetadata=_WITHDRAWN)
            case Called():
                yield from self._called(item)
            case Answered(call_id=call_id, action=action):
                if action == "deny":  # there may be no result of it
                    self.returned = True
                    yield {"type": "tool-output-denied", "toolCallId": call_id}
            case Returned():
                yield from self._returned(item)
            case Asked():
                yield from self._asked(item, leg)

    def close_step(self) -> Iterator[Made]:
        """End the step, if there is one."""
        if self.step:
            self.step = self.returned = False
            yield {"type": "finish-step"}

    def finish(self, reason: str, record: TurnRecord | None) -> Made:
        """The last part; of a turn that has ended, with what it used."""
        usage = None if record is None else record.usage
        return {
            "type": "finish",
            "finishReason": reason,
            **({} if usage is None else {"messageMetadata": {"usage": _usage(usage)}}),
        }

    def _begin(self) -> Iterator[Made]:
        """Begin a step, if the last one has no more to come."""
        if self.returned:
            yield from self.close_step()
        if not self.step:
            self.step = True
            yield {"type": "start-step"}

    def _say(self, said: Said) -> Iterator[Made]:
        if said.thought not in self.texts:
            yield from self._begin()
            self.texts[said.thought] = f"{_kind(said.thought)}-{self.leg}-{self.count}"
            self.count += 1
            yield self._text(said.thought, "start")
        yield {**self._text(said.thought, "delta"), "delta": said.text}

    def _close(self, thought: bool, **more: Any) -> Iterator[Made]:
        if thought in self.texts:
            yield {**self._text(thought, "end"), **more}
            del self.texts[thought]

    def _text(self, thought: bool, what: str) -> Made:
        return {"type": f"{_kind(thought)}-{what}", "id": self.texts[thought]}

    def _called(self, call: Called) -> Iterator[Made]:
        if call.call_id in self.calls:
            return
        self.calls.add(call.call_id)
        yield from self._begin()
        workers = {} if call.tool in self.own else {"providerExecuted": True}
        named = {"toolCallId": call.call_id, "toolName": call.tool}
        yield {"type": "tool-input-available", **named, "input": call.args, **workers}

    def _returned(self, returned: Returned) -> Iterator[Made]:
        yield from self._called(Called(returned.call_id, returned.tool, {}))
        self.returned = True
        workers = {} if returned.tool in self.own else {"providerExecuted": True}
        if returned.outcome == "ok":
            output = {"toolCallId": returned.call_id, "output": returned.result}
            yield {"type": "tool-output-available", **output, **workers}
        else:
            text = returned.result if isinstance(returned.result, str) else written(returned.result)
            yield {"type": "tool-output-error", "toolCallId": returned.call_id, "errorText": text, **workers}

    def _asked(self, asked: Asked, leg: int) -> Iterator[Made]:
        for call in (*asked.own, *asked.others):
            yield from self._called(call)
        for call in asked.others:
            if call.kind in ASKED:
                ids = {"approvalId": approval_id(leg, call.call_id), "toolCallId": call.call_id}
                yield {"type": "tool-approval-request", **ids}
        if asks_client(asked):
            yield from self.close_step()


def _kind(thought: bool) -> str:
    return "reasoning" if thought else "text"


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
    }
