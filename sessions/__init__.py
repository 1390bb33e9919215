"""Distributed agent sessions on Celery, Redis and Qdrant: what a web backend imports."""

from sessions.agent import Agent
from sessions.errors import SessionfleetError
from sessions.protocol import Event, EventType, TurnStatus
from sessions.session import Session
from sessions.tools import ToolContext, tool
from sessions.turn import Turn

__all__ = [
    "Agent",
    "Event",
    "EventType",
    "Session",
    "SessionfleetError",
    "ToolContext",
    "Turn",
    "TurnStatus",
    "tool",
]
