"""The journal of tool calls: a side effect happens once, or the model is told that nobody knows.

nothing recorded -> (retry="never": record `started`) -> run -> record the result with its event
`started` and no result, after a crash -> in doubt: what the tool's marks say
a result -> returned as it was; the tool is not run
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic_ai import ModelRetry, RunContext, ToolFailed
from pydantic_ai.durable_exec import record_durable_unit
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, RunCancelled, SkipToolExecution
from pydantic_ai.messages import ToolReturn
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from broker_config.telemetry import get_logger
from sessions.errors import ResultTooLarge, ToolError, ToolInDoubt, TurnFailed
from sessions.protocol.call import Answer, Ask, AskKind
from sessions.protocol.event import EventType
from sessions.tools.decorator import OutsideResult, ToolContext, ToolSpec
from sessions.tools.turn_state import ToolState
from workers.engine.delegation import AskAgent, begin_asking, said_by
from workers.engine.pending_calls import answer_to, ask_key, denial
from workers.engine.ports import EventDraft
from workers.engine.recorded_call import begun_call, must_run, tool_key
from workers.engine.scope import TurnScope, current_scope, current_tool
from workers.engine.tool_record import (
    ToolRecord,
    call_entry,
    called_out,
    failed_call,
    recorded_call,
    returned_call,
    shown,
    stored_call,
)

_log = get_logger(__name__)


@dataclass
class JournalToolset(WrapperToolset[Any]):
    """Calls each tool at most once for each call of the model."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Return the recorded result, or run the tool and record what comes of it."""
        scope = current_scope.get()
        if scope is None:
            return await self.wrapped.call_tool(name, tool_args, ctx, tool)
        call_id = ctx.tool_call_id or name
        spec = scope.specs.get(name) or ToolSpec(name)
        record = begun_call(scope, call_id, ctx.retry)
        if spec.approval and not ctx.tool_call_approved and must_run(record, spec):
            raise ApprovalRequired
        if record is None and scope.journal.lookup(f"model:{scope.requests + 1}") is not None:
            # Its arguments were refused, and the model has gone on: an effect now would be one that it never hears of.
            raise scope.diverged(f"calls tool {name!r}, which it did not do")
        key = tool_key(scope, call_id, ctx.retry)
        call = _ToolCall(scope, key, call_id, name, spec, tool_args, ctx.tool_call_approved)
        return await call.outcome(record, lambda: self.wrapped.call_tool(name, tool_args, ctx, tool))


@dataclass(slots=True)
class _ToolCall:
    scope: TurnScope
    key: str
    call_id: str
    name: str
    spec: ToolSpec
    args: dict[str, Any]
    approved: bool
    cause: Exception | None = None
    asked: AskAgent | None = None

    async def outcome(self, record: ToolRecord | None, body: Callable[[], Awaitable[Any]]) -> Any:
        if record is None:
            return self._settle(await self._run(body))
        if record.status == "deferred":
            return self._settle(await self._deferred(record, body))
        record_durable_unit(executed=False)
        if record.status != "started":
            self.scope.state.session.apply(record.state)
            return self._settle(record)
        if self.spec.retry == "safe":
            return self._settle(await self._run(body))
        return self._settle(await self._in_doubt(record, body))

    async def _run(self, body: Callable[[], Awaitable[Any]], doubts: int = 0) -> ToolRecord:
        state = self.scope.state
        self.scope.check_open()
        if not state.tools_running:
            # Not beside a running tool: raising here would cancel that one half-way.
            self.scope.hand_over_if_draining()
        # Counted until the result is written: a run that is cut short in between leaves the call in doubt.
        state.tools_running += 1
        try:
            if self.spec.retry == "never":
                await self.scope.write(self.key, call_entry(ToolRecord("started", doubts=doubts)))
            self.scope.check_held()
            changes = ToolState(state.session)
            record = await self._execute(body, changes)
            record_durable_unit(executed=True)
            record = replace(record, state=changes.ops)
            if record.status == "deferred":
                return await self._defer(record)
            return await self._record(record)
        finally:
            state.tools_running -= 1

    async def _execute(self, body: Callable[[], Awaitable[Any]], changes: ToolState) -> ToolRecord:
        turn = self.scope.turn
        context = ToolContext(
            turn.session_id, turn.user_id, turn.turn_id, self.call_id, turn.attempt, self.spec.name, changes
        )
        tool_token, scope_token = current_tool.set(context), current_scope.set(None)
        try:
            returned = await body()
            return returned_call(await self.scope.hooks.result(self.name, returned))
        except SkipToolExecution as skipped:
            return returned_call(skipped.result)
        except (ModelRetry, ValidationError) as error:
            return ToolRecord("retry", message=str(error))
        except (ToolFailed, RunCancelled) as error:
            return ToolRecord("failed", message=error.message)
        except (OutsideResult, CallDeferred) as asked:
            self.asked = asked if isinstance(asked, AskAgent) else None
            return called_out(asked)
        except ApprovalRequired as asked:  # it has done nothing yet, so there is nothing to doubt
            return ToolRecord("deferred", ask=AskKind.APPROVAL, metadata=asked.metadata or {})
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled the run: something that the tool waits for was, and that is a failure of the tool.
            return ToolRecord("error", message=f"tool {self.name!r} failed: what it waited for was cancelled")
        except Exception as error:  # noqa: BLE001 - whatever else a tool raises ends the turn, as in pydantic-ai
            return self._raised(error)
        finally:
            current_scope.reset(scope_token)
            current_tool.reset(tool_token)

    def _raised(self, error: Exception) -> ToolRecord:
        if isinstance(error, TurnFailed) and not isinstance(error, ToolError):  # what a hook decided, or could not
            raise self.scope.abort(error) from error.__cause__
        self.cause = error
        if isinstance(error, ToolError):  # the tool's author has put it into words for the caller
            return ToolRecord("error", message=str(error))
        # Its text may hold a password or a path, and the record is read by callers, events by a page's visitors.
        _log.warning("tool_raised", tool=self.name, call=self.call_id, error=repr(error))
        said = f"tool {self.name!r} raised {type(error).__name__}; the worker's log has its text"
        return ToolRecord("error", message=said)

    async def _defer(self, record: ToolRecord) -> ToolRecord:
        """The tool has called out: journal that, and let the run come to its end without it."""
        events: list[EventDraft] = []
        if self.asked is not None:
            record.waits_for, event = await begin_asking(self.scope, self.key, self.asked, self.call_id)
            if event is None:
                return await self._record(ToolRecord("failed", message=record.waits_for))
            events.append(event)
        raw = stored_call(record, self.name)
        record = recorded_call(raw)
        if record.status != "deferred":
            return await self._record(record)
        await self.scope.write(self.key, raw, events)
        return await self._deferred(record, None)

    async def _deferred(self, record: ToolRecord, body: Callable[[], Awaitable[Any]] | None) -> ToolRecord:
        if record.ask is AskKind.APPROVAL:
            if self.approved and body is not None:
                return await self._run(body)
            raise ApprovalRequired(metadata=record.metadata)
        if record.ask is AskKind.TURN:
            return await self._asked(record)
        answer = self._answer(record.ask, record.metadata, waits_for=record.waits_for)
        if answer is None:
            raise CallDeferred(metadata=record.metadata)
        if answer.action == "deny":
            return await self._record(ToolRecord("failed", message=denial(answer), state=record.state))
        return await self._record(replace(returned_call(answer.result), state=record.state))

    async def _asked(self, record: ToolRecord) -> ToolRecord:
        """What the agent said that this call asked, once it has."""
        said = await said_by(self.scope, record.waits_for or "")
        if said is None:
            self._answer(AskKind.TURN, record.metadata, waits_for=record.waits_for)
            raise CallDeferred(metadata=record.metadata)
        record = replace(record, usage=said.usage)
        if not said.ok:
            return await self._record(replace(record, status="failed", message=said.reason))
        try:
            answer = await self.scope.hooks.result(self.name, said.output)
        except TurnFailed as error:
            raise self.scope.abort(error) from error.__cause__
        return await self._record(replace(record, status="ok", result=ToolReturn(return_value=answer)))

    def _answer(self, kind: AskKind, metadata: dict[str, Any], again: int = 0, **more: Any) -> Answer | None:
        key = ask_key(self.scope, kind, self.call_id, again)
        asked = Ask(key=key, call_id=self.call_id, tool=self.name, args=self.args, kind=kind, metadata=metadata, **more)
        return answer_to(self.scope, asked)

    async def _ask_person(self, record: ToolRecord, body: Callable[[], Awaitable[Any]]) -> ToolRecord | None:
        """What a person decided of a call in doubt; None: that nobody knows."""
        answer = self._answer(AskKind.IN_DOUBT, {}, record.doubts)
        if answer is None:
            raise CallDeferred
        if answer.action == "approve":
            return await self._run(body, record.doubts + 1)  # should it be in doubt again, that is another question
        return await self._record(returned_call(answer.result)) if answer.action == "provide" else None

    async def _in_doubt(self, record: ToolRecord, body: Callable[[], Awaitable[Any]]) -> ToolRecord:
        if self.spec.in_doubt == "wait" and (decided := await self._ask_person(record, body)) is not None:
            return decided
        said = f"the worker died while tool {self.name!r} ran (call {self.call_id!r})"
        if self.spec.in_doubt == "fail":
            raise self.scope.abort(
                ToolInDoubt(f"{said}; whether it took effect is unknown. Look there before you send the message again")
            )
        text = f"Outcome unknown: {said}. It was not repeated, and may or may not have taken effect; assume neither."
        return await self._record(ToolRecord("unknown", ToolReturn(return_value=text)))

    async def _record(self, record: ToolRecord) -> ToolRecord:
        """Write the call's end and its event in one step; returns it as a replay would see it."""
        raw = stored_call(record, self.name)
        limit = self.scope.result_limit_bytes
        if len(raw) > limit:
            message = (
                f"the result of tool {self.name!r} has {len(raw):,} bytes, more than the {limit:,} that "
                f"SESSIONFLEET_RESULT_LIMIT_BYTES allows; return less, or raise the limit on the workers"
            )
            raw = call_entry(failed_call(message, too_large=True))
        record = recorded_call(raw)
        await self.scope.write(self.key, raw, [self._event(record)])
        return record

    def _event(self, record: ToolRecord) -> EventDraft:
        outcome = "failed" if record.status == "error" else record.status
        value = record.message if record.result is None else record.result.return_value
        data = {"tool": self.name, "call_id": self.call_id, "result": shown(value), "outcome": outcome}
        if record.ask is AskKind.TURN:
            data["turn"] = record.waits_for
        return EventDraft(EventType.TOOL_RESULT, data)

    def _settle(self, record: ToolRecord) -> Any:
        if record.usage is not None:
            self.scope.spent.append(record.usage)
        if record.status == "retry":
            raise ModelRetry(record.message)
        if record.status == "failed":
            raise ToolFailed(record.message)
        if record.result is None:
            failure = ResultTooLarge if record.too_large else ToolError
            raise self.scope.abort(failure(record.message, tool=self.name)) from self.cause
        return record.result if record.wrapped else record.result.return_value
