"""What a page may answer, and what its decisions are about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sessions.errors import Forbidden
from sessions.gateway.caller import Caller
from sessions.gateway.narration import Asked, Called
from sessions.gateway.principal import Principal, Right
from sessions.gateway.vercel.requests import Message
from sessions.gateway.vercel.turns import _answers, _give

ASKED = Asked(own=(), others=(Called("c1", "refund", {}, "approval"),))


def message(approval: dict[str, Any]) -> Message:
    part = {"type": "tool-refund", "toolCallId": "c1", "state": "approval-responded", "approval": approval}
    return Message.model_validate({"id": "msg_x", "role": "assistant", "parts": [part]})


async def test_a_decision_needs_the_right_to_approve() -> None:
    """Whoever may only send messages cannot let a call run."""
    caller = cast(Caller, SimpleNamespace(principal=Principal("t", rights=frozenset({Right.READ, Right.WRITE}))))
    answers = _answers(message({"id": "apr_0_c1", "approved": True}), ASKED, 0)
    with pytest.raises(Forbidden):
        await _give(caller, cast(Any, None), ASKED, answers)


def test_a_decision_is_about_one_request() -> None:
    """One about an earlier request, sent again, does not count for a later one about the same call."""
    assert _answers(message({"id": "apr_0_c1", "approved": True}), ASKED, 1) == {}
    assert _answers(message({"id": "apr_0_c1"}), ASKED, 0) == {}
    assert list(_answers(message({"id": "apr_1_c1", "approved": False}), ASKED, 1)) == ["c1"]
