"""The engine: pydantic-ai with a journal. It uses no broker and no store; `ports` says what it needs instead."""

from workers.engine.engine import Engine
from workers.engine.ports import (
    EventDraft,
    EventSink,
    HandedOver,
    LeaseLost,
    PastTurn,
    RunState,
    StepJournal,
    TransientModelError,
    TurnInput,
    TurnOutput,
)
from workers.engine.registry import Registry, register_agent, register_model

__all__ = [
    "Engine",
    "EventDraft",
    "EventSink",
    "HandedOver",
    "LeaseLost",
    "PastTurn",
    "Registry",
    "RunState",
    "StepJournal",
    "TransientModelError",
    "TurnInput",
    "TurnOutput",
    "register_agent",
    "register_model",
]
