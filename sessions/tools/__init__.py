"""Tools: functions that a model may call, and the state that they read and change."""

from sessions.tools.decorator import OutsideResult, ToolContext, ToolSpec, check_name, spec_of, tool, tool_names

__all__ = ["OutsideResult", "ToolContext", "ToolSpec", "check_name", "spec_of", "tool", "tool_names"]
