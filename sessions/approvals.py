"""Answering the calls that a turn waits for: the part of `Turn` for people and for whatever brings results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from sessions.arguments import encodes
from sessions.errors import BadRequest
from sessions.finite import non_finite
from sessions.protocol import Answer
from sessions.session_ports import TurnCalls
from sessions.store.calls import PendingCall
from sessions.store.keys import SessionKeys


class _OneTurn(Protocol):
    """What of a turn these methods need."""

    _client: TurnCalls
    _keys: SessionKeys
    _part: str


class ApprovalMethods:
    """The methods of `Turn` for its pending calls, each with its async twin. Any process may answer, once."""

    async def aapprovals(self: _OneTurn) -> list[PendingCall]:
        """The calls that the turn waits for now."""
        return await self._client.portal.acall(self._client.pending_calls(self._keys, self._part))

    def approvals(self: _OneTurn) -> list[PendingCall]:
        """The calls that the turn waits for now."""
        return self._client.portal.call(self._client.pending_calls(self._keys, self._part))

    async def aapprove(self: _OneTurn, call_id: str, *, args: Mapping[str, Any] | None = None) -> None:
        """Let a call run, with other arguments if you like. The turn goes on when all its calls are answered.

        Raises:
            CallNotFound: the turn does not wait for this call. CallAnswered: it was answered differently before.
            BadRequest: the call waits for something else, or the arguments are no JSON object.
        """
        await self._client.portal.acall(self._client.answer_call(*_of(self, call_id), _approval(args)))

    def approve(self: _OneTurn, call_id: str, *, args: Mapping[str, Any] | None = None) -> None:
        """Let a call run; see `aapprove`."""
        self._client.portal.call(self._client.answer_call(*_of(self, call_id), _approval(args)))

    async def adeny(self: _OneTurn, call_id: str, reason: str = "") -> None:
        """Refuse a call; the model is told so, with the reason.

        Raises:
            As `aapprove`.
        """
        await self._client.portal.acall(self._client.answer_call(*_of(self, call_id), _denial(reason)))

    def deny(self: _OneTurn, call_id: str, reason: str = "") -> None:
        """Refuse a call; see `adeny`."""
        self._client.portal.call(self._client.answer_call(*_of(self, call_id), _denial(reason)))

    async def aprovide(self: _OneTurn, call_id: str, result: Any) -> None:
        """Bring the result of a call; the model receives it as if the tool had returned it.

        Raises:
            As `aapprove`; BadRequest also when the result is no JSON.
        """
        await self._client.portal.acall(self._client.answer_call(*_of(self, call_id), _result(result)))

    def provide(self: _OneTurn, call_id: str, result: Any) -> None:
        """Bring the result of a call; see `aprovide`."""
        self._client.portal.call(self._client.answer_call(*_of(self, call_id), _result(result)))


def _of(turn: _OneTurn, call_id: object) -> tuple[SessionKeys, str, str]:
    if not isinstance(call_id, str):
        raise BadRequest(f"call_id {call_id!r}: give the `call_id` of one of turn.approvals()")
    return turn._keys, turn._part, call_id  # noqa: SLF001 - these methods are the turn's own


def _approval(args: Mapping[str, Any] | None) -> Answer:
    if args is not None and not isinstance(args, Mapping):
        raise BadRequest(f"args {args!r}: give the tool's arguments as a dict, or None for those of the model")
    return _checked(Answer.model_construct(action="approve", args=None if args is None else dict(args)))


def _denial(reason: object) -> Answer:
    if not isinstance(reason, str) or not encodes(reason):
        raise BadRequest(f"reason {reason!r}: give a text")
    return Answer(action="deny", reason=reason)


def _result(result: Any) -> Answer:
    return _checked(Answer.model_construct(action="provide", result=result))


def _checked(answer: Answer) -> Answer:
    """The answer as JSON keeps it; what it is made of comes back as plain values."""
    if (found := non_finite(answer.args) or non_finite(answer.result)) is not None:
        raise BadRequest(f"an answer is stored as JSON, which does not have such a number: {found}")
    try:
        return Answer.model_validate_json(answer.model_dump_json(warnings=False))
    except (PydanticSerializationError, ValidationError) as error:
        raise BadRequest(f"an answer is stored as JSON, and this is none: {error}") from error
