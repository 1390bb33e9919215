"""A response's events. They follow from those of its turn alone, so their numbers are the same for every reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sessions.gateway.narration import (
    ASKED,
    Asked,
    Called,
    Ended,
    Returned,
    Said,
    Settled,
    Told,
    Withdrawn,
    arguments_text,
    asks_client,
)
from sessions.gateway.openai.ids import APPROVAL, CallRef, ResponseRef
from sessions.gateway.openai.responses.responses import asked_of, ended_status, outcome
from sessions.protocol.turn import TurnRequest
from sessions.store.turns import TurnRecord

LABEL: Final = "agent"
"""The agent's own tools are shown as calls of a server of this name: they run on the workers, not at the client."""
_TERMINAL: Final = {"completed": "response.completed", "failed": "response.failed"}

Made = dict[str, Any]


@dataclass(slots=True)
class _Open:
    """A text that is being said."""

    item_id: str
    index: int
    text: str = ""


@dataclass(slots=True)
class ResponseMaker:
    """Makes the events of one response, and with them the response."""

    ref: ResponseRef
    record: TurnRecord
    request: TurnRequest
    output: list[Made] = field(default_factory=list)
    status: str = "in_progress"
    sequence: int = 0
    index: int = 0
    texts: dict[bool, _Open] = field(default_factory=dict)
    calls: dict[str, Called] = field(default_factory=dict)

    def begin(self) -> Iterator[Made]:
        """The first events."""
        yield self._event("response.created", response=self.response())
        yield self._event("response.in_progress", response=self.response())

    def earlier(self, item: Told) -> None:
        """Take what an earlier leg of the turn told: its calls may return in this one."""
        if isinstance(item, Called):
            self.calls[item.call_id] = item

    def feed(self, item: Told) -> Iterator[Made]:
        """The events for what is told in this leg."""
        match item:
            case Said():
                yield from self._say(item)
            case Settled(thought=thought):
                yield from self._close(thought, "completed")
            case Withdrawn(thought=thought):
                yield from self._close(thought, "incomplete")
            case Called():
                self.calls[item.call_id] = item
            case Returned():
                yield from self._returned(item)
            case Asked() if asks_client(item):
                yield from self._asked(item)
                self.status = "completed"
            case _:
                pass

    def end(self, record: TurnRecord, text: str | None) -> Iterator[Made]:
        """The last events, for a turn that has ended.

        Args:
            record: of the turn.
            text: of an answer that has a form of its own, which was not told.
        """
        if text is not None:
            yield from self._say(Said(text))
            yield from self._close(False, "completed")
        self.record = record
        self.status = ended_status(record)

    def last(self) -> Made:
        """The last event."""
        return self._event(_TERMINAL.get(self.status, "response.incomplete"), response=self.response())

    def response(self) -> Made:
        """The response as it is now."""
        record = self.record if self.record.status.final and self.status != "in_progress" else None
        asked = asked_of(self.ref, self.record, self.request)
        return {**asked, **outcome(self.status, record), "output": list(self.output)}

    # --- texts ------------------------------------------------------------------------------------------

    def _say(self, said: Said) -> Iterator[Made]:
        text = self.texts.get(said.thought)
        if text is None:
            text = self.texts[said.thought] = _Open(self._item_id("rs" if said.thought else "msg"), self.index)
            self.index += 1
            item = _text_item(text, said.thought, "in_progress", [])
            yield self._event("response.output_item.added", output_index=text.index, item=item)
            yield self._part("added", text, said.thought)
        text.text += said.text
        yield self._text_event("delta", text, said.thought, delta=said.text)

    def _close(self, thought: bool, status: str) -> Iterator[Made]:
        text = self.texts.pop(thought, None)
        if text is None:
            return
        yield self._text_event("done", text, thought, text=text.text)
        yield self._part("done", text, thought)
        item = _text_item(text, thought, status, [_text_part(thought, text.text)])
        if status == "completed":
            self.output.append(item)
        yield self._event("response.output_item.done", output_index=text.index, item=item)

    def _part(self, what: str, text: _Open, thought: bool) -> Made:
        part = _text_part(thought, "" if what == "added" else text.text)
        return self._event(f"response.content_part.{what}", **_place(text), part=part)

    def _text_event(self, what: str, at: _Open, thought: bool, **more: str) -> Made:
        kind = "reasoning_text" if thought else "output_text"
        logprobs: dict[str, Any] = {} if thought else {"logprobs": []}
        return self._event(f"response.{kind}.{what}", **_place(at), **more, **logprobs)

    # --- calls ------------------------------------------------------------------------------------------

    def _returned(self, returned: Returned) -> Iterator[Made]:
        call = self.calls.pop(returned.call_id, None)
        failed = returned.outcome not in ("ok", "retry")
        text = returned.result if isinstance(returned.result, str) else json.dumps(returned.result, ensure_ascii=False)
        item = {
            "id": self._item_id("mcp"),
            "type": "mcp_call",
            "server_label": LABEL,
            "name": returned.tool,
            "arguments": "{}" if call is None else arguments_text(call.args),
            "output": None if failed else text,
            "error": text if failed else None,
            "status": "failed" if failed else "completed",
            "approval_request_id": None,
        }
        yield from self._whole(item, {**item, "output": None, "error": None, "status": "in_progress"})

    def _asked(self, asked: Asked) -> Iterator[Made]:
        for call in asked.own:
            yield from self._function_call(call)
        for call in asked.others:
            if call.kind in ASKED:
                item = {
                    "id": self._call_ref(call).written(APPROVAL),
                    "type": "mcp_approval_request",
                    "server_label": LABEL,
                    "name": call.tool,
                    "arguments": arguments_text(call.args),
                }
                yield from self._whole(item, item)

    def _function_call(self, call: Called) -> Iterator[Made]:
        item_id, arguments = self._item_id("fc"), arguments_text(call.args)
        item = {"id": item_id, "type": "function_call", "call_id": str(self._call_ref(call)), "name": call.tool}
        done = {**item, "arguments": arguments, "status": "completed"}
        place = {"item_id": item_id, "output_index": self.index}
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=self.index, item=begun)
        yield self._event("response.function_call_arguments.delta", **place, delta=arguments)
        yield self._event("response.function_call_arguments.done", **place, name=call.tool, arguments=arguments)
        yield self._done(done)

    def _whole(self, item: Made, begun: Made) -> Iterator[Made]:
        yield self._event("response.output_item.added", output_index=self.index, item=begun)
        yield self._done(item)

    def _done(self, item: Made) -> Made:
        self.output.append(item)
        self.index += 1
        return self._event("response.output_item.done", output_index=self.index - 1, item=item)

    def _call_ref(self, call: Called) -> CallRef:
        return CallRef(self.ref.session_id, self.ref.turn_id, self.ref.leg, call.call_id)

    def _item_id(self, kind: str) -> str:
        return f"{kind}_{self.ref.part}{self.ref.leg:02x}{self.index:03x}"

    def _event(self, kind: str, **fields: Any) -> Made:
        self.sequence += 1
        return {"type": kind, "sequence_number": self.sequence - 1, **fields}


def _place(text: _Open) -> dict[str, Any]:
    return {"item_id": text.item_id, "output_index": text.index, "content_index": 0}


def _text_part(thought: bool, text: str) -> Made:
    if thought:
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _text_item(text: _Open, thought: bool, status: str, content: list[Made]) -> Made:
    if thought:
        return {"id": text.item_id, "type": "reasoning", "status": status, "summary": [], "content": content}
    return {"id": text.item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def ended(item: Told) -> bool:
    """Whether a response ends with this."""
    return isinstance(item, Ended) or (isinstance(item, Asked) and asks_client(item))
