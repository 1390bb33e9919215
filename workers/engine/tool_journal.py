"""The journal of tool calls: a side effect happens once, or the model is told that its outcome is unknown.

journal has nothing             record `started` (unless retry="safe"), run the tool, record result and event
journal has `started` only      a worker crashed while the tool ran: the call is in doubt, see `@tool(in_doubt=)`
journal has a result            return it; do not run the tool
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
from sessions.protocol.call import CallAnswer, CallKind, WaitingCall, denial
from sessions.protocol.event import EventType
from sessions.protocol.message import MediaPart
from sessions.tools.decorator import OutsideResult, ToolContext, ToolSpec
from sessions.tools.tool_files import ToolFiles
from sessions.tools.turn_state import ToolState
from workers.engine.approval_policy import REFUSED, decided
from workers.engine.attachments import ids_in
from workers.engine.delegation import AskAgent, poll_delegate, start_delegation
from workers.engine.pending_calls import answer_to, waiting_key
from workers.engine.ports import EventDraft
from workers.engine.recorded_call import find_call, must_run, tool_key
from workers.engine.scope import TurnScope, current_scope, current_tool
from workers.engine.tool_record import (
    ToolRecord,
    deferred_call,
    dump_call,
    dump_call_or_failure,
    event_result,
    failed_call,
    load_call,
    successful_call,
)
from workers.engine.tool_results import with_stored_files

_log = get_logger(__name__)


@dataclass
class JournalToolset(WrapperToolset[Any]):
    """Runs a tool at most once for each call that the model makes."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Return the recorded result, or run the tool and record its outcome."""
        scope = current_scope.get()
        if scope is None:
            return await self.wrapped.call_tool(name, tool_args, ctx, tool)
        call_id = ctx.tool_call_id or name
        spec = scope.spec(name)
        record = find_call(scope, call_id, ctx.retry)
        if record is None and scope.journal.lookup(f"model:{scope.requests + 1}") is not None:
            # The arguments were rejected in the earlier attempt and the model has continued without a result. If the
            # tool ran now, the model would never learn of its effect.
            raise scope.diverged(f"calls tool {name!r}, which it did not do")
        key = tool_key(scope, call_id, ctx.retry)
        call = _ToolCall(scope, key, call_id, name, spec, tool_args, ctx.tool_call_approved)
        if spec.approval is not False and not ctx.tool_call_approved and must_run(record, spec):
            match await decided(scope, spec, call.context(ToolState(scope.state.session)), tool_args):
                case "ask":
                    raise ApprovalRequired
                case "never":
                    return await call.refuse()
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

    async def refuse(self) -> Any:
        """Record that the tool's policy does not allow the call, and tell the model."""
        return self._settle(await self._record(ToolRecord("failed", message=REFUSED)))

    async def _run(self, body: Callable[[], Awaitable[Any]], doubts: int = 0) -> ToolRecord:
        state = self.scope.state
        self.scope.check_open()
        if not state.tools_running:
            # Only while no other tool is running: raising here would cancel it half-way.
            self.scope.hand_over_if_draining()
        # Counted until the result is written, since cancelling the run before that leaves the call in doubt.
        state.tools_running += 1
        try:
            if self.spec.retry == "never":
                await self.scope.write(self.key, dump_call(ToolRecord("started", doubts=doubts)))
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
        tool_token, scope_token = current_tool.set(self.context(changes)), current_scope.set(None)
        try:
            returned = await self.scope.hooks.after_tool(self.name, await body())
            return successful_call(await with_stored_files(returned, self.scope.state.files))
        except SkipToolExecution as skipped:
            return successful_call(skipped.result)
        except (ModelRetry, ValidationError) as error:
            return ToolRecord("retry", message=str(error))
        except (ToolFailed, RunCancelled) as error:
            return ToolRecord("failed", message=error.message)
        except (OutsideResult, CallDeferred) as asked:
            self.asked = asked if isinstance(asked, AskAgent) else None
            return deferred_call(asked)
        except ApprovalRequired as asked:  # the tool has done nothing yet, so the call is not in doubt
            return ToolRecord("deferred", ask=CallKind.APPROVAL, metadata=asked.metadata or {})
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The run was not cancelled; something that the tool awaited was. That is a failure of the tool.
            return ToolRecord("error", message=f"tool {self.name!r} failed: what it waited for was cancelled")
        except Exception as error:  # noqa: BLE001 - any other exception of a tool ends the turn, as in pydantic-ai
            return self._failure(error)
        finally:
            current_scope.reset(scope_token)
            current_tool.reset(tool_token)

    def context(self, changes: ToolState) -> ToolContext:
        """What the tool and its policy see of the call."""
        turn = self.scope.turn
        return ToolContext(
            session_id=turn.session_id,
            user_id=turn.user_id,
            turn_id=turn.turn_id,
            call_id=self.call_id,
            attempt=turn.attempt,
            tool=self.spec.name,
            state=changes,
            metadata=turn.metadata,
            files=self._files(),
        )

    def _files(self) -> ToolFiles:
        """The files that the tool may open: those of the session."""
        files, parts = self.scope.state.files, self.scope.turn.parts
        own = tuple(part for part in parts if isinstance(part, MediaPart) and part.file_id)
        return ToolFiles(own, None if files is None else files.read, asyncio.get_running_loop())

    def _failure(self, error: Exception) -> ToolRecord:
        if isinstance(error, TurnFailed) and not isinstance(error, ToolError):  # raised by a hook
            raise self.scope.abort(error) from error.__cause__
        self.cause = error
        if isinstance(error, ToolError):  # its message was written for the caller
            return ToolRecord("error", message=str(error))
        # Only the log gets the text: it may contain a password or a path, and callers and visitors read records.
        _log.warning("tool_raised", tool=self.name, call=self.call_id, error=repr(error))
        message = f"tool {self.name!r} raised {type(error).__name__}; the worker's log has its text"
        return ToolRecord("error", message=message)

    async def _defer(self, record: ToolRecord) -> ToolRecord:
        """Record that the tool deferred its result, and let the run continue without it."""
        events: list[EventDraft] = []
        if self.asked is not None:
            record.waits_for, event = await start_delegation(self.scope, self.key, self.asked, self.call_id)
            if event is None:
                return await self._record(ToolRecord("failed", message=record.waits_for))
            events.append(event)
        raw = dump_call_or_failure(record, self.name)
        record = load_call(raw)
        if record.status != "deferred":
            return await self._record(record)
        await self.scope.write(self.key, raw, events)
        return await self._deferred(record, None)

    async def _deferred(self, record: ToolRecord, body: Callable[[], Awaitable[Any]] | None) -> ToolRecord:
        if record.ask is CallKind.APPROVAL:
            if self.approved and body is not None:
                return await self._run(body)
            raise ApprovalRequired(metadata=record.metadata)
        if record.ask is CallKind.TURN:
            return await self._delegated(record)
        answer = self._answer(record.ask, record.metadata, waits_for=record.waits_for)
        if answer is None:
            raise CallDeferred(metadata=record.metadata)
        if answer.action == "deny":
            return await self._record(ToolRecord("failed", message=denial(answer.reason), state=record.state))
        return await self._record(replace(successful_call(answer.result), state=record.state))

    async def _delegated(self, record: ToolRecord) -> ToolRecord:
        """Record the other agent's answer, or defer the call until there is one."""
        answer = await poll_delegate(self.scope, record.waits_for or "")
        if answer is None:
            self._answer(CallKind.TURN, record.metadata, waits_for=record.waits_for)
            raise CallDeferred(metadata=record.metadata)
        record = replace(record, usage=answer.usage)
        if not answer.ok:
            return await self._record(replace(record, status="failed", message=answer.reason))
        try:
            output = await self.scope.hooks.after_tool(self.name, answer.output)
        except TurnFailed as error:
            raise self.scope.abort(error) from error.__cause__
        return await self._record(replace(record, status="ok", result=ToolReturn(return_value=output)))

    def _answer(self, kind: CallKind, metadata: dict[str, Any], again: int = 0, **more: Any) -> CallAnswer | None:
        key = waiting_key(self.scope, kind, self.call_id, again)
        asked = WaitingCall(
            key=key, call_id=self.call_id, tool=self.name, args=self.args, kind=kind, metadata=metadata, **more
        )
        return answer_to(self.scope, asked)

    async def _ask_person(self, record: ToolRecord, body: Callable[[], Awaitable[Any]]) -> ToolRecord | None:
        """Carry out a person's decision about a call in doubt; None if it is that the outcome stays unknown."""
        answer = self._answer(CallKind.IN_DOUBT, {}, record.doubts)
        if answer is None:
            raise CallDeferred
        if answer.action == "approve":
            return await self._run(body, record.doubts + 1)  # if it gets in doubt again, a person is asked again
        return await self._record(successful_call(answer.result)) if answer.action == "provide" else None

    async def _in_doubt(self, record: ToolRecord, body: Callable[[], Awaitable[Any]]) -> ToolRecord:
        if self.spec.in_doubt == "wait" and (decided := await self._ask_person(record, body)) is not None:
            return decided
        what = f"the worker died while tool {self.name!r} ran (call {self.call_id!r})"
        if self.spec.in_doubt == "fail":
            raise self.scope.abort(
                ToolInDoubt(f"{what}; whether it took effect is unknown. Check before you send the message again")
            )
        text = f"Outcome unknown: {what}. It was not repeated, and may or may not have taken effect; assume neither."
        return await self._record(ToolRecord("unknown", ToolReturn(return_value=text)))

    async def _record(self, record: ToolRecord) -> ToolRecord:
        """Write the call's outcome and its event in one step; returns the outcome as a replay would read it."""
        raw = dump_call_or_failure(record, self.name)
        limit = self.scope.result_limit_bytes
        if len(raw) > limit:
            message = (
                f"the result of tool {self.name!r} has {len(raw):,} bytes, more than the {limit:,} that "
                f"SESSIONFLEET_RESULT_LIMIT_BYTES allows; return less, or raise the limit on the workers"
            )
            raw = dump_call(failed_call(message, too_large=True))
        record = load_call(raw)
        await self.scope.write(self.key, raw, [self._event(record)], ids_in(record.result))
        return record

    def _event(self, record: ToolRecord) -> EventDraft:
        outcome = "failed" if record.status == "error" else record.status
        value = record.message if record.result is None else record.result.return_value
        data = {"tool": self.name, "call_id": self.call_id, "result": event_result(value), "outcome": outcome}
        if record.ask is CallKind.TURN:
            data["turn"] = record.waits_for
        return EventDraft(EventType.TOOL_RESULT, data)

    def _settle(self, record: ToolRecord) -> Any:
        if record.usage is not None:
            self.scope.delegate_usage.append(record.usage)
        if record.status == "retry":
            raise ModelRetry(record.message)
        if record.status == "failed":
            raise ToolFailed(record.message)
        if record.result is None:
            failure = ResultTooLarge if record.too_large else ToolError
            raise self.scope.abort(failure(record.message, tool=self.name)) from self.cause
        return record.result if record.wrapped else record.result.return_value
