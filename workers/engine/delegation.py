"""Agents as tools. A call of such a tool is deferred until the other agent's turn has ended."""

from __future__ import annotations

from typing import Any

from pydantic_ai import Tool
from pydantic_ai.exceptions import CallDeferred

from sessions.protocol.agent import Delegate
from sessions.protocol.event import EventType
from sessions.tools.decorator import ToolSpec
from workers.engine.ports import DelegateAnswer, DelegationRefused, EventDraft
from workers.engine.scope import TurnScope


class AskAgent(CallDeferred):
    """Raised by an agent's tool, to defer the call until the agent has answered `message`."""

    def __init__(self, delegate: Delegate, message: str) -> None:
        super().__init__(metadata={"agent": delegate.config.name})
        self.delegate = delegate
        self.message = message


def delegate_tool(delegate: Delegate) -> Tool[Any]:
    """The tool with which the model asks an agent."""

    async def ask(message: str) -> str:
        """Ask an agent.

        Args:
            message: what to ask it, with all that it needs to know for its answer
        """
        raise AskAgent(delegate, message)

    return Tool(ask, name=delegate.tool, description=delegate.description)


def delegate_spec(delegate: Delegate) -> ToolSpec:
    """The tool's specification. Running it again is safe, since the same call always means the same turn."""
    return ToolSpec(delegate.tool, retry="safe")


async def start_delegation(scope: TurnScope, key: str, asked: AskAgent, call_id: str) -> tuple[str, EventDraft | None]:
    """Submit the other agent's turn, once for each call. Returns its id and an event; if refused, a reason and None."""
    delegates = scope.state.delegates
    if delegates is None:
        return "No other agent can be asked here.", None
    try:
        turn = await delegates.start(key, asked.delegate, asked.message)
    except DelegationRefused as error:
        return str(error), None
    except Exception as error:
        scope.abort(error)
        raise
    about = {"tool": asked.delegate.tool, "call_id": call_id, "agent": asked.delegate.config.name, "turn": turn}
    return turn, EventDraft(EventType.TASK_STARTED, about)


async def poll_delegate(scope: TurnScope, turn_id: str) -> DelegateAnswer | None:
    """The answer of another agent's turn; None while it is running."""
    delegates = scope.state.delegates
    if delegates is None:
        return DelegateAnswer(False, reason="No other agent can be asked here.")
    try:
        return await delegates.poll_answer(turn_id)
    except Exception as error:
        scope.abort(error)
        raise
