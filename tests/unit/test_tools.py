"""`@tool` and the names that a client sends."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessions.errors import InvalidTool
from sessions.tools.decorator import ToolContext, ToolSpec, spec_of, tool, tool_names


@tool
def lookup(q: str) -> str:
    """Look something up."""
    return q


@tool(retry="safe", name="charge-card", description="Charges.")
async def charge(amount: int) -> int:
    return amount


def unmarked() -> None: ...


async def test_a_marked_function_stays_callable() -> None:
    """@tool adds a mark and changes nothing else."""
    assert lookup("x") == "x"
    assert await charge(3) == 3
    assert lookup.__doc__ == "Look something up."


def test_the_marks_are_kept_with_the_function() -> None:
    """By default a tool is never repeated, and a call in doubt is reported to the model."""
    assert spec_of(lookup) == ToolSpec("lookup", "never", "unknown", None)
    assert spec_of(charge) == ToolSpec("charge-card", "safe", "unknown", "Charges.")
    assert spec_of(unmarked) is None


def test_functions_and_names_can_be_mixed() -> None:
    """Only names are sent, in the order in which they were given."""
    assert tool_names([charge, "search", lookup]) == ("charge-card", "search", "lookup")
    assert tool_names(()) == ()


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ([unmarked], "'unmarked' is not marked as a tool.*put @tool above its def"),
        ([lambda: None], "a lambda cannot be a tool"),
        ([lookup, "lookup"], "'lookup' is listed twice"),
        ([3], "not 3 \\(int\\)"),
        (["no spaces"], "'no spaces': use 1 to 64 letters"),
        ([""], "tool name ''"),
        ("lookup", "takes a list"),
        (lookup, "takes a list"),
        ([len], "'len' is not marked"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_what_to_do(tools: Any, says: str) -> None:
    """Each mistake has its own message; all are InvalidTool and so ValueError."""
    with pytest.raises(InvalidTool, match=says):
        tool_names(tools)


def test_a_function_of_the_script_itself_is_refused_with_the_lines_to_type() -> None:
    """Workers cannot import __main__."""
    function: Callable[..., Any] = types.FunctionType(lookup.__code__, {}, "lookup")
    function.__module__ = "__main__"
    with pytest.raises(InvalidTool) as caught:
        tool_names([function])
    message = str(caught.value)
    for line in ("from sessions import tool", "@tool", "def lookup(", "from tools import lookup"):
        assert line in message
    assert "export SESSIONFLEET_IMPORTS=tools" in message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retry": "always"}, "retry='always'.*'safe', 'never'"),
        ({"in_doubt": "retry"}, "in_doubt='retry'.*'unknown', 'fail', 'wait'"),
        ({"name": "a b"}, "'a b'"),
        ({"name": "x" * 65}, "1 to 64"),
    ],
)
def test_options_that_do_not_exist_are_refused(options: dict[str, Any], says: str) -> None:
    """A misspelt option must not silently mean the default."""
    with pytest.raises(InvalidTool, match=says):
        tool(**options)(unmarked)


@pytest.mark.parametrize("target", [3, "name", object(), len])
def test_only_functions_can_be_marked(target: Any) -> None:
    """Objects and built-ins have no signature to show a model."""
    with pytest.raises(InvalidTool, match="functions made with def"):
        tool(target)


def test_the_idempotency_key_names_turn_and_call() -> None:
    """It does not hold the attempt, so that a repeated call is recognised."""
    context = ToolContext("s", "u", "s~1", "c1", 2, "charge")
    assert context.idempotency_key == "s~1:c1"


def test_marking_tools_needs_no_engine() -> None:
    """A web backend that imports its tools module stays light."""
    code = "import sys, sessions.tools; sys.exit('pydantic_ai' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
