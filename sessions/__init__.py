"""Distributed agent sessions on Celery, Redis and Qdrant: what a web backend imports."""

from sessions.agent import Agent
from sessions.agent_directory import AgentDirectory
from sessions.errors import SessionfleetError
from sessions.operation import Operation, Progress
from sessions.protocol import Event, EventType, TurnStatus
from sessions.public_errors import public_message
from sessions.session import Session
from sessions.store.calls import PendingCall
from sessions.team import Agents, AgentTeam, Task
from sessions.team_result import TaskResult, TaskStatus, TeamResult
from sessions.team_run import TeamRun
from sessions.tools import OutsideResult, ToolContext, tool
from sessions.turn import Turn
from sessions.webhooks import verify_webhook

__all__ = [
    "Agent",
    "AgentDirectory",
    "AgentTeam",
    "Agents",
    "Event",
    "EventType",
    "Operation",
    "OutsideResult",
    "PendingCall",
    "Progress",
    "Session",
    "SessionfleetError",
    "Task",
    "TaskResult",
    "TaskStatus",
    "TeamResult",
    "TeamRun",
    "ToolContext",
    "Turn",
    "TurnStatus",
    "public_message",
    "tool",
    "verify_webhook",
]
