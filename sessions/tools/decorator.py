"""Marking functions as tools, and naming them in a request.

A client sends the names of its tools, never their code: workers import the modules in `SESSIONFLEET_IMPORTS` and find
the marked functions there. Nothing here runs a tool; `workers.engine` does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, overload

from sessions.errors import InvalidTool
from sessions.tools.tool_files import ToolFiles
from sessions.tools.turn_state import ToolState

MARK = "__sessionfleet_tool__"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

ApprovalDecision = Literal["automatic", "ask", "never"]
"""A call runs; it waits until somebody approves it; or the model is told that it may not make it."""
Retry = Literal["safe", "never"]
InDoubt = Literal["unknown", "fail", "wait"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """The options of `@tool` for a function.

    Attributes:
        name: its name for the model and for `Agent(tools=)`.
        retry: `safe` if running it twice does no harm; a call that a crash interrupted is then simply repeated.
        in_doubt: what happens to a `never` call that a crash interrupted: `unknown` tells the model so and continues,
            `fail` ends the turn with `ToolInDoubt`, `wait` lets the turn wait for a person's decision.
        approval: True: each call waits until somebody approves it; "never": no call runs; a function decides for each.
        description: what the model is told; None: the function's docstring.
    """

    name: str
    retry: Retry = "never"
    in_doubt: InDoubt = "unknown"
    description: str | None = None
    approval: bool | Literal["never"] | ApprovalPolicy = False


class OutsideResult(Exception):
    """Raised by a tool whose result comes from elsewhere: its turn waits for `turn.provide(call_id, result)`.

    Args:
        metadata: JSON for the one who provides the result.
        waits_for: what will bring the result, such as the id of a job or a turn.
    """

    def __init__(self, metadata: Mapping[str, Any] | None = None, *, waits_for: str | None = None) -> None:
        super().__init__("the result of this tool comes from outside")
        self.metadata = dict(metadata or {})
        self.waits_for = waits_for


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Passed to a tool that has a parameter annotated `ToolContext`; the model never sees that parameter.

    Attributes:
        attempt: 1-based attempt of the turn; above 1 a worker was lost before, or the model failed for a while.
        state: the session's state as this turn sees it; changes take effect when the turn commits.
        metadata: what the caller attached to the message (`metadata=`).
        files: the files of the message that the turn answers; `ctx.files.read(file)` reads one of the session's.
    """

    session_id: str
    user_id: str | None
    turn_id: str
    call_id: str
    attempt: int
    tool: str
    state: ToolState = field(default_factory=ToolState)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    files: ToolFiles = field(default_factory=ToolFiles)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this call; pass it to services that accept such a key."""
        return f"{self.turn_id}:{self.call_id}"


ApprovalPolicy = Callable[[ToolContext, dict[str, Any]], "bool | ApprovalDecision | Awaitable[bool | ApprovalDecision]"]
"""Decides about a call, by its context and arguments: `ApprovalDecision`, or whether somebody must approve it."""


def approval_decision(value: object) -> ApprovalDecision:
    """What an `approval=`, or a policy's answer, means.

    Raises:
        InvalidTool: it is neither a bool nor an `ApprovalDecision`.
    """
    if isinstance(value, bool):
        return "ask" if value else "automatic"
    if value == "automatic" or value == "ask" or value == "never":  # noqa: PLR1714 - this form tells the type checker
        return value
    raise InvalidTool(f'approval {value!r}: use True, False, "automatic", "ask", "never", or a function')


_APPROVALS: Final[Mapping[ApprovalDecision, bool | Literal["never"]]] = {
    "automatic": False,
    "ask": True,
    "never": "never",
}


@overload
def tool(function: Function, /) -> Function: ...


@overload
def tool(
    *,
    retry: Retry = "never",
    in_doubt: InDoubt = "unknown",
    approval: bool | ApprovalDecision | ApprovalPolicy = False,
    name: str | None = None,
    description: str | None = None,
) -> Callable[[Function], Function]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retry: Retry = "never",
    in_doubt: InDoubt = "unknown",
    approval: bool | ApprovalDecision | ApprovalPolicy = False,
    name: str | None = None,
    description: str | None = None,
) -> Any:
    """Mark a function as a tool that agents may call. The function itself is unchanged.

    Args:
        function: the function, sync or async; the model sees its parameters' types and its docstring.
        retry: `safe` if it may run twice for one call (it only reads, or uses `ToolContext.idempotency_key`).
        in_doubt: for `retry="never"`, what to do with a call that was running when its worker died.
        approval: True or "ask" lets each call wait until somebody approves it: `turn.approve(call_id)` or
            `turn.deny(call_id)`. "never" refuses each call. A function `(context, args)` decides about each call: it
            returns one of these, or "automatic" or False if the call may run. It is asked once for a call; if it
            raises, somebody is asked.
        name: a name other than the function's.
        description: a description other than the docstring.

    Raises:
        InvalidTool: it is not a named function, or an option or the name is not valid.
    """
    _check_choice("retry", retry, ("safe", "never"))
    _check_choice("in_doubt", in_doubt, ("unknown", "fail", "wait"))
    policy = approval if callable(approval) else _APPROVALS[approval_decision(approval)]

    def mark(marked: Function) -> Function:
        if not inspect.isfunction(marked):
            raise InvalidTool(f"@tool marks functions made with def, not {marked!r}; wrap it in a function")
        if marked.__name__ == "<lambda>" and name is None:
            raise InvalidTool(
                "a lambda has no name to call it by; write a function with def, or set one with @tool(name=...)"
            )
        spec = ToolSpec(check_name(name or marked.__name__), retry, in_doubt, description, policy)
        setattr(marked, MARK, spec)
        return marked

    return mark if function is None else mark(function)


def spec_of(function: object) -> ToolSpec | None:
    """The options that `@tool` set for this function, or None if it is not marked."""
    spec = getattr(function, MARK, None)
    return spec if isinstance(spec, ToolSpec) else None


def check_name(name: object) -> str:
    """A tool's name, if model providers accept it.

    Raises:
        InvalidTool: it has other characters, or is too long or empty.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidTool(f"tool name {name!r}: use 1 to 64 letters, digits, '_' and '-'; set it with @tool(name=...)")
    return name


def tool_names(tools: Sequence[str | Callable[..., Any]]) -> tuple[str, ...]:
    """The names to send for `Agent(tools=...)`.

    Args:
        tools: names that workers have registered, or functions marked `@tool`.

    Raises:
        InvalidTool: one of them cannot be called by a worker; the message says what to do.
    """
    if isinstance(tools, str) or not isinstance(tools, Sequence):
        raise InvalidTool(f"tools= takes a list of functions or names, not {tools!r}; write tools=[...]")
    names = tuple(check_name(item) if isinstance(item, str) else _name_of(item) for item in tools)
    for name in names:
        if names.count(name) > 1:
            raise InvalidTool(f"tool {name!r} is listed twice; name each tool once, or rename one with @tool(name=...)")
    return names


def _name_of(item: object) -> str:
    if not callable(item):
        raise InvalidTool(f"a tool must be a function marked @tool, or its name, not {item!r} ({type(item).__name__})")
    name = getattr(item, "__name__", type(item).__name__)
    if name == "<lambda>":
        raise InvalidTool("a lambda cannot be a tool: workers find tools by name; write a function with def and @tool")
    if getattr(item, "__module__", None) == "__main__":
        raise InvalidTool(_main_message(name))
    spec = spec_of(item)
    if spec is None:
        raise InvalidTool(
            f"{name!r} is not marked as a tool: write `from sessions import tool` and put @tool above its def"
        )
    return spec.name


def _main_message(name: str) -> str:
    return (
        f"{name!r} is defined in the script itself, which workers cannot import. Put it in a module, such as "
        f"tools.py:\n\n    from sessions import tool\n\n    @tool\n    def {name}(...): ...\n\nimport it from there, "
        f"and let the workers import it too:\n\n    from tools import {name}\n\n    export SESSIONFLEET_IMPORTS=tools"
    )


def _check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidTool(f"@tool({option}={value!r}): use one of {', '.join(map(repr, choices))}")
