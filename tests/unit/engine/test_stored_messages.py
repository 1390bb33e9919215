"""Messages as the history stores them: without what pydantic-ai adds by itself, and the same when they are read."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pydantic_ai.messages as theirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import (
    BinaryContent,
    CachePoint,
    CompactionPart,
    DocumentUrl,
    FilePart,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from sessions.protocol.lean_messages import DEFAULTS, NULLS, PARTS, USAGE, lean_messages
from workers.engine.ports import PastTurn
from workers.engine.stored_messages import dump_messages, load_messages

TURN, SESSION = "s1~" + "0" * 32, "s1"
AT = datetime(2026, 11, 30, 20, 9, 23, 47719, UTC)


def classes(*names: str) -> set[Any]:
    """The dataclasses of pydantic-ai's unions of these names."""

    def flat(kind: Any) -> Iterator[Any]:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield kind
        for inner in typing.get_args(kind):
            yield from flat(inner)

    return {found for name in names for found in flat(getattr(theirs, name))}


def kind_of(cls: Any) -> str:
    return str(next(f.default for f in dataclasses.fields(cls) if f.name == "part_kind"))


def test_what_is_left_out_is_a_default_of_pydantic_ai() -> None:
    """With a version of pydantic-ai that has other defaults, stored messages would become others: this says so."""
    parts = {cls for cls in classes("ModelRequestPart", "ModelResponsePart") if kind_of(cls) in PARTS}
    assert {kind_of(cls) for cls in parts} == PARTS
    for cls in parts | classes("UserContent") | {ModelRequest, ModelResponse}:
        for field in dataclasses.fields(cls):
            if field.name in NULLS:
                assert field.default is None or "None" not in str(field.type), (cls, field.name)
            if field.name in DEFAULTS:
                assert field.default == DEFAULTS[field.name], (cls, field.name)
    empty = RequestUsage()
    assert {f.name for f in dataclasses.fields(RequestUsage)} == USAGE
    assert not any(getattr(empty, name) for name in USAGE)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "complete", "success", "text"])
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "state", "metadata", "args", "kind", "outcome"]), inner, max_size=3)
    ),
    max_leaves=6,
)
details = st.none() | st.just({"id": None, "state": "complete", "n": 0})
name = st.none() | st.sampled_from(["", "openai"])
called = {"tool_call_id": st.sampled_from(["c1", "c2"]), "tool_name": st.just("lookup")}
of_model = {"id": name, "provider_name": name, "provider_details": details}
items = st.sampled_from(
    [
        "text",
        TextContent("noted", metadata={"a": None}),
        ImageUrl("sessionfleet-file:1", media_type="image/png", vendor_metadata={"name": "a.png", "size": None}),
        ImageUrl("https://example.org/a.png", force_download=True),
        DocumentUrl("https://example.org/a.pdf"),
        BinaryContent(b"\x89PNG", media_type="image/png"),
        CachePoint(),
    ]
)
prompts = st.builds(UserPromptPart, content=st.text(max_size=9) | st.lists(items, max_size=3), timestamp=st.just(AT))
returns = st.builds(
    ToolReturnPart,
    content=plain | st.lists(items, max_size=2),
    outcome=st.sampled_from(["success", "failed", "retried"]),
    metadata=plain,
    timestamp=st.just(AT),
    **called,
)
requests = st.builds(
    ModelRequest,
    parts=st.lists(
        prompts | returns | st.builds(SystemPromptPart, st.just("be kind"), timestamp=st.just(AT), dynamic_ref=name),
        max_size=4,
    ),
    timestamp=st.none() | st.just(AT),
    run_id=st.sampled_from([TURN, None, "other"]),
    conversation_id=st.sampled_from([SESSION, "other"]),
    metadata=details,
)
usages = st.builds(
    RequestUsage,
    input_tokens=st.sampled_from([0, 7]),
    output_tokens=st.sampled_from([0, 3]),
    details=st.sampled_from([{}, {"reasoning_tokens": 0}]),
    cost=st.none() | st.just(Decimal("0.00012")),
)
responses = st.builds(
    ModelResponse,
    parts=st.lists(
        st.builds(TextPart, st.text(max_size=9), **of_model)
        | st.builds(ThinkingPart, st.text(max_size=9), signature=name, **of_model)
        | st.builds(ToolCallPart, args=st.sampled_from([None, "", '{"q":null}', {"q": None}]), **called, **of_model)
        | st.builds(NativeToolCallPart, args=st.sampled_from([None, {"state": "complete"}]), **called)
        | st.builds(NativeToolReturnPart, content=plain, timestamp=st.just(AT), provider_name=name, **called)
        | st.builds(FilePart, st.just(BinaryContent(b"x", media_type="image/png")), **of_model)
        | st.builds(CompactionPart, content=name, **of_model),
        max_size=4,
    ),
    usage=usages,
    model_name=name,
    timestamp=st.just(AT),
    provider_details=details,
    finish_reason=st.sampled_from([None, "stop", "tool_call"]),
    run_id=st.sampled_from([TURN, None]),
    conversation_id=st.just(SESSION),
    state=st.sampled_from(["complete", "interrupted"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(requests | responses, max_size=3))
def test_messages_are_the_same_when_they_are_read(messages: list[ModelMessage]) -> None:
    """Whatever tools returned and models added. Also for a worker of an earlier version, except for the ids."""
    full = ModelMessagesTypeAdapter.dump_json(messages)
    wanted = ModelMessagesTypeAdapter.validate_json(full)
    stored = dump_messages(messages, turn_id=TURN, session_id=SESSION)
    read = load_messages(PastTurn("A", stored, turn_id=TURN, session_id=SESSION))
    assert read == wanted
    assert ModelMessagesTypeAdapter.dump_json(read) == ModelMessagesTypeAdapter.dump_json(wanted)
    earlier = ModelMessagesTypeAdapter.validate_json(stored)
    for message, same in zip(earlier, wanted, strict=True):
        if message.run_id is None and same.run_id == TURN:
            message.run_id, message.conversation_id = TURN, SESSION
    assert earlier == wanted


def test_a_short_turn_has_no_defaults_and_no_ids() -> None:
    """The bytes that each turn of each session costs for as long as the session lives."""
    ids = {"run_id": TURN, "conversation_id": SESSION}
    asked = ModelRequest([UserPromptPart("Hello there", timestamp=AT)], timestamp=AT, **ids)
    answered = ModelResponse([TextPart("Good day")], usage=RequestUsage(input_tokens=9), timestamp=AT, **ids)
    stored = dump_messages([asked, answered], turn_id=TURN, session_id=SESSION)
    at = AT.isoformat().replace("+00:00", "Z")
    prompt = {"content": "Hello there", "timestamp": at, "part_kind": "user-prompt"}
    answer = {"content": "Good day", "part_kind": "text"}
    assert json.loads(stored) == [
        {"parts": [prompt], "timestamp": at, "kind": "request"},
        {"parts": [answer], "usage": {"input_tokens": 9}, "timestamp": at, "kind": "response"},
    ]


@pytest.mark.parametrize("own", [{"turn_id": "", "session_id": ""}, {"turn_id": "s1~other", "session_id": SESSION}])
def test_ids_of_other_runs_stay(own: dict[str, str]) -> None:
    """Messages that another library's session object wrote have ids of their own."""
    asked = ModelRequest([UserPromptPart("Hello", timestamp=AT)], run_id=TURN, conversation_id=SESSION)
    stored = dump_messages([asked], **own)
    assert load_messages(PastTurn("A", stored, **own)) == [asked]


def test_what_a_tool_returned_is_not_looked_into() -> None:
    """Null, and what has the names of fields, is content there."""
    content = {"state": "complete", "metadata": None, "usage": {"cost": None}}
    part = {"part_kind": "tool-return", "tool_name": "t", "content": content, "metadata": None}
    assert lean_messages([{"kind": "request", "parts": [part]}]) == [
        {"kind": "request", "parts": [{"part_kind": "tool-return", "tool_name": "t", "content": content}]}
    ]
