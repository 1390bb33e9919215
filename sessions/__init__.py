"""Distributed agent sessions on Celery, Redis and Qdrant: what a web backend imports."""

from sessions.own_packages import require_own

require_own("broker_config")  # before the next lines import it

from sessions.api.agent import Agent
from sessions.api.agent_directory import AgentDirectory
from sessions.api.approvals import ApprovalPage, PendingApproval
from sessions.api.operation import Operation, Progress
from sessions.api.schedules import Schedule, ScheduleOptions
from sessions.api.session import Session
from sessions.api.team import Agents, AgentTeam, Task
from sessions.api.team_run import TeamRun
from sessions.api.turn import Turn
from sessions.api.turns import TurnInfo, TurnPage
from sessions.client.arguments.attachments import Audio, Document, Image
from sessions.client.arguments.options import DocumentOptions, TurnOptions
from sessions.client.backend import SessionPage
from sessions.client.schedule_info import ScheduleInfo
from sessions.client.transcript import Branch, FoundMessage
from sessions.errors import SessionfleetError
from sessions.protocol.event import Event, EventType, SessionEvent
from sessions.protocol.public_errors import public_message
from sessions.protocol.team_result import TaskResult, TaskStatus, TeamResult
from sessions.protocol.turn import TurnStatus
from sessions.protocol.usage import UsageRow
from sessions.protocol.webhook_signature import verify_webhook
from sessions.store.calls import PendingCall
from sessions.store.files import StoredFile
from sessions.store.session_info import SessionInfo
from sessions.tools.decorator import OutsideResult, ToolContext, tool

__all__ = [
    "Agent",
    "AgentDirectory",
    "AgentTeam",
    "Agents",
    "ApprovalPage",
    "Audio",
    "Branch",
    "Document",
    "DocumentOptions",
    "Event",
    "EventType",
    "FoundMessage",
    "Image",
    "Operation",
    "OutsideResult",
    "PendingApproval",
    "PendingCall",
    "Progress",
    "Schedule",
    "ScheduleInfo",
    "ScheduleOptions",
    "Session",
    "SessionEvent",
    "SessionInfo",
    "SessionPage",
    "SessionfleetError",
    "StoredFile",
    "Task",
    "TaskResult",
    "TaskStatus",
    "TeamResult",
    "TeamRun",
    "ToolContext",
    "Turn",
    "TurnInfo",
    "TurnOptions",
    "TurnPage",
    "TurnStatus",
    "UsageRow",
    "public_message",
    "tool",
    "verify_webhook",
]
