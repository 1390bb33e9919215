"""Sessionfleet's workers: `celery -A workers worker`, and what users register in their modules."""

from workers.own_sessions import require_own_sessions

require_own_sessions()  # before the next lines import it

from workers.engine.hooks import HookContext, register_hooks
from workers.engine.registry import register_agent, register_model

__all__ = ["HookContext", "register_agent", "register_hooks", "register_model"]
