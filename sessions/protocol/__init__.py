"""What goes over the wire: statuses, events, requests and results, one file for each."""

from sessions.protocol.agent import DELEGATION_DEPTH, AgentConfig, Delegate, KnowledgeBases, RecallSettings
from sessions.protocol.call import CallAnswer, CallKind, WaitingCall
from sessions.protocol.event import Event, EventType
from sessions.protocol.operation import Extraction, OperationSpec
from sessions.protocol.team import MemberSpec, TaskSpec, TeamSpec
from sessions.protocol.turn import (
    TASK_NAME,
    TRANSITIONS,
    Policy,
    TurnError,
    TurnRequest,
    TurnStatus,
    Usage,
    total,
)
from sessions.protocol.version import WIRE_VERSION

__all__ = [
    "DELEGATION_DEPTH",
    "TASK_NAME",
    "TRANSITIONS",
    "WIRE_VERSION",
    "AgentConfig",
    "CallAnswer",
    "CallKind",
    "Delegate",
    "Event",
    "EventType",
    "Extraction",
    "KnowledgeBases",
    "MemberSpec",
    "OperationSpec",
    "Policy",
    "RecallSettings",
    "TaskSpec",
    "TeamSpec",
    "TurnError",
    "TurnRequest",
    "TurnStatus",
    "Usage",
    "WaitingCall",
    "total",
]
