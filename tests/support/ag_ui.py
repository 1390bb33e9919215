"""A client of AG-UI: it checks each event with the models of `ag-ui-protocol`, and their order, and applies them."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import httpx
from ag_ui.core import Event, RunAgentInput
from pydantic import TypeAdapter

EVENT: TypeAdapter[Any] = TypeAdapter(Event)


def new_id() -> str:
    return uuid.uuid4().hex


def user(content: Any) -> dict[str, Any]:
    return {"id": f"u-{new_id()}", "role": "user", "content": content}


class Order:
    """Refuses events in an order that the protocol does not allow."""

    OPENS: ClassVar = {"TEXT_MESSAGE_START": "text", "REASONING_START": "span", "REASONING_MESSAGE_START": "thought"}
    INSIDE: ClassVar = {"TEXT_MESSAGE_CONTENT": "text", "REASONING_MESSAGE_CONTENT": "thought"}
    CLOSES: ClassVar = {"TEXT_MESSAGE_END": "text", "REASONING_END": "span", "REASONING_MESSAGE_END": "thought"}

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.open: set[tuple[str, str]] = set()

    def check(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert not self.ended, f"{kind} after the end"
        assert self.begun == (kind != "RUN_STARTED"), f"{kind} in the wrong place"
        self.begun = True
        if kind.startswith("TOOL_CALL_"):
            self._call(kind, ("call", event["toolCallId"]))
        elif kind in self.OPENS:
            place = (self.OPENS[kind], event["messageId"])
            assert place not in self.open
            self.open.add(place)
        elif kind in self.INSIDE:
            assert (self.INSIDE[kind], event["messageId"]) in self.open
        elif kind in self.CLOSES:
            self.open.remove((self.CLOSES[kind], event["messageId"]))
        elif kind in ("RUN_FINISHED", "RUN_ERROR"):
            assert kind == "RUN_ERROR" or not self.open, self.open
            self.ended = True

    def _call(self, kind: str, place: tuple[str, str]) -> None:
        if kind == "TOOL_CALL_START":
            assert place not in self.open
            self.open.add(place)
        elif kind != "TOOL_CALL_RESULT":
            assert place in self.open
            if kind == "TOOL_CALL_END":
                self.open.remove(place)


class Agent:
    """One thread with an agent, as a page would hold it: its messages and its state follow from the events."""

    def __init__(self, url: str, agent: str = "assistant", thread: str | None = None) -> None:
        self.url, self.thread = f"{url}/v1/ag-ui/{agent}", thread or f"ag-ui-{new_id()}"
        self.messages: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}

    def run(
        self,
        *messages: dict[str, Any],
        run_id: str | None = None,
        until: Callable[[dict[str, Any]], bool] | None = None,
        **fields: Any,
    ) -> list[dict[str, Any]]:
        """One run with further messages; all its events, or those up to the first for which `until` is true."""
        self.messages += messages
        body = {
            "threadId": self.thread, "runId": run_id or new_id(), "messages": self.messages, "state": self.state,
            "tools": [], "context": [], "forwardedProps": {}, **fields,
        }  # fmt: skip
        RunAgentInput.model_validate(body)
        order, found = Order(), []
        for event in self._events(body):
            EVENT.validate_python(event)
            order.check(event)
            self.apply(event)
            found.append(event)
            if until is not None and until(event):
                return found
        assert order.ended
        assert found[0]["runId"] == body["runId"]
        return found

    def _events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        with (
            httpx.Client(timeout=60, trust_env=False) as client,
            client.stream("POST", self.url, json=body) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise httpx.HTTPStatusError(response.text, request=response.request, response=response)
            assert response.headers["content-type"].startswith("text/event-stream")
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def apply(self, event: dict[str, Any]) -> None:
        """As a client's reducer does: what has the same id is the same message."""
        if event["type"] == "MESSAGES_SNAPSHOT":
            self._replace(event["messages"])
        elif event["type"].startswith("STATE_"):
            self._apply_state(event)
        else:
            self._apply_message(event)

    def _replace(self, messages: list[dict[str, Any]]) -> None:
        """As `@ag-ui/client` does: thoughts stay if the snapshot has none at all."""
        kept = [] if any(each["role"] == "reasoning" for each in messages) else self.messages
        known = {each["id"] for each in messages}
        thoughts = [each for each in kept if each["role"] == "reasoning" and each["id"] not in known]
        self.messages = [*thoughts, *messages]

    def _apply_state(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "STATE_SNAPSHOT":
                self.state = event["snapshot"]
            case "STATE_DELTA":
                for change in event["delta"]:
                    key = change["path"][1:].replace("~1", "/").replace("~0", "~")
                    self.state = {name: value for name, value in self.state.items() if name != key}
                    if change["op"] != "remove":
                        self.state[key] = change["value"]

    def _apply_message(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "TEXT_MESSAGE_START":
                self._message(event["messageId"], "assistant")
            case "REASONING_MESSAGE_START":
                self._message(event["messageId"], "reasoning")
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                message = self._message(event["messageId"], "")
                message["content"] = (message.get("content") or "") + event["delta"]
            case "TOOL_CALL_START":
                message = self._message(event["parentMessageId"], "assistant")
                function = {"name": event["toolCallName"], "arguments": ""}
                message.setdefault("toolCalls", []).append(
                    {"id": event["toolCallId"], "type": "function", "function": function}
                )
            case "TOOL_CALL_ARGS":
                self.call(event["toolCallId"])["function"]["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                message = self._message(event["messageId"], "tool")
                message |= {"toolCallId": event["toolCallId"], "content": event["content"]}

    def call(self, call_id: str) -> dict[str, Any]:
        return next(call for each in self.messages for call in each.get("toolCalls", ()) if call["id"] == call_id)

    def texts(self) -> list[str]:
        """What the agent and the user said, in their order."""
        return [each["content"] for each in self.messages if each["role"] in ("user", "assistant") and each["content"]]

    def _message(self, message_id: str, role: str) -> dict[str, Any]:
        for each in self.messages:
            if each["id"] == message_id:
                return each
        self.messages.append(made := {"id": message_id, "role": role, "content": ""})
        return made


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types, repetitions as one."""
    return [kind for kind, _ in itertools.groupby(event["type"] for event in events)]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")
