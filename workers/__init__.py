"""Sessionfleet's workers: `celery -A workers worker`, and what users register in their modules."""

from workers.engine.registry import register_agent, register_model

__all__ = ["register_agent", "register_model"]
