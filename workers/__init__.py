"""Sessionfleet's workers: `celery -A workers worker`, and what users register in their modules."""

import runpy
from pathlib import Path

# The check is run by its path: `sessions`, which the next lines import, may be the user's.
_check = runpy.run_path(str(Path(__file__).parents[1] / "sessions" / "own_packages.py"), run_name="own_packages")
_check["require_own"]("sessions", "broker_config")

from workers.engine.hooks import HookContext, register_hooks
from workers.engine.registry import register_agent, register_model

__all__ = ["HookContext", "register_agent", "register_hooks", "register_model"]
