"""The options of methods that send a message or a document: one list of keywords, shared by all of these methods.

A `TypedDict` tells type checkers and editors what `**options` may hold. `takes` does the same at run time: an unknown
keyword is a TypeError that names the method that was called, and `help()` and `inspect.signature` list the keywords.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, TypeVar, cast, get_type_hints


class TurnOptions(TypedDict, total=False):
    """The options of a message; None, or not given, means the default.

    Attributes:
        timeout: seconds to the turn's deadline; SESSIONFLEET_TURN_TIMEOUT by default.
        idempotency_key: the same key with the same message returns the same turn, until a day after its end.
        policy: what to do with the message if the session is busy: `enqueue`, `reject`, `interrupt`, `rollback` or
            `steer` (which returns the turn that it joined); by default the session's.
        waiting_blocks: whether later turns wait while this one waits for an answer; by default the session's.
        approval_timeout: seconds after which the turn fails if its calls are not answered;
            SESSIONFLEET_APPROVAL_TIMEOUT by default.
        webhook: a URL that gets a signed request when the turn ends, repeated until it answers 2xx (docs/webhooks.md).
        not_before: a datetime with a time zone, or seconds from now, at most a year ahead: the turn is accepted now and
            begins no earlier, without holding up the messages that are sent meanwhile (docs/schedules.md).
        model: used for this message instead of the agent's model: a name such as `openai:gpt-5`, or a list of names of
            which each is asked if the ones before it failed.
        model_settings: of this message's model requests, such as `{"temperature": 0.2, "max_tokens": 500}`; they
            replace the agent's own. The names are those of pydantic-ai's `ModelSettings`.
        max_model_calls: how often the turn may ask a model; max_tool_calls: how many tool calls it may make. Of these,
            the agent's own limits and the workers' settings, the smallest counts. A turn that needs more fails with
            TurnLimitExceeded; what it finished stays in the history.
        budget: what the turn may spend: `{"tokens": 50000, "cost": 0.25}`, one or both, in US dollars. Before a model
            request that could exceed it, the turn fails with BudgetExceeded. The agent's own and the workers' settings
            count as well (docs/usage-and-budgets.md).
        user_id: who sends the message, for a session that a backend opens without a user and that several users share:
            its owner, or a user whom the owner lets write (`session.share`). Its tools, memories and `user:` state are
            then this user's.
        metadata: a dict of JSON values (up to 4 KiB), such as a request id: shown in the turn's record and webhook, in
            traces, and to tools and hooks through their context. No model sees it.
        instructions: what the model is told after the agent's own instructions, in this turn.
        outside_tools: tools that the sender has, as dicts with name, description and parameters (a JSON schema). If the
            model calls one, the turn waits until `turn.provide(call_id, result)` brings its result (docs/turns.md).
        tool_choice: which of the outside tools the turn's first model request must call: "required" (any), or names.
        output_schema: the JSON schema of an object: the form of this turn's answer, instead of the agent's.
    """

    timeout: float | None
    idempotency_key: str | None
    policy: str | None
    waiting_blocks: bool | None
    approval_timeout: float | None
    webhook: str | None
    not_before: datetime | float | None
    model: str | Sequence[str] | None
    model_settings: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    max_model_calls: int | None
    max_tool_calls: int | None
    budget: Mapping[str, Any] | None
    user_id: str | None
    instructions: str | None
    outside_tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Sequence[str] | None
    output_schema: Mapping[str, Any] | None


class DocumentOptions(TypedDict, total=False):
    """The options of a document to add; None, or not given, means the default.

    Attributes:
        name: of the document; the file's name by default. A document of the same name is replaced.
        metadata: a dict of JSON values, for filters.
        scope: "session", "user" or the name of a base; by default the session's.
        content_type: such as "text/html"; by default it follows from the name and the content.
        charset: of a text file, such as "windows-1251"; by default the one that it declares, or that is detected.
        timeout: seconds to the operation's deadline.
        idempotency_key: the same key returns the same operation, until a day after its end.
        webhook: a URL to notify when the operation has ended.
    """

    name: str | None
    metadata: Mapping[str, Any] | None
    scope: str | None
    content_type: str | None
    charset: str | None
    timeout: float | None
    idempotency_key: str | None
    webhook: str | None


Method = TypeVar("Method", bound=Callable[..., Any])


def takes(options: type, *, more: Callable[[Any], bool] | None = None) -> Callable[[Method], Method]:
    """Mark a method whose `**options` are those of a TypedDict.

    Args:
        more: whether this object's method also takes other keywords.
    """
    listed = {name: _keyword(name, hint) for name, hint in get_type_hints(options).items()}

    def mark(method: Method) -> Method:
        signature = inspect.signature(method)
        own = {name: each for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
        parameters = {**own, **listed}
        allowed = frozenset(parameters.keys() - {"self"})

        def check(called_on: object, keywords: Iterable[str]) -> None:
            if not allowed.issuperset(keywords) and not (more is not None and more(called_on)):
                name = f"{type(called_on).__name__}.{method.__name__}"
                raise TypeError(_unexpected(name, min(set(keywords) - allowed), allowed))

        checked = _checked_async(method, check) if inspect.iscoroutinefunction(method) else _checked(method, check)
        checked.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
        return cast(Method, checked)

    return mark


Check = Callable[[object, Iterable[str]], None]


def _checked(method: Callable[..., Any], check: Check) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, /, *args: Any, **keywords: Any) -> Any:
        check(self, keywords)
        return method(self, *args, **keywords)

    return call


def _checked_async(method: Callable[..., Any], check: Check) -> Callable[..., Any]:
    """A coroutine function too, because mocks and frameworks ask `inspect.iscoroutinefunction`."""

    @functools.wraps(method)
    async def call(self: Any, /, *args: Any, **keywords: Any) -> Any:
        check(self, keywords)
        return await method(self, *args, **keywords)

    return call


def _keyword(name: str, hint: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def _unexpected(method: str, name: str, allowed: frozenset[str]) -> str:
    """The message of Python's own error, and the keyword that was probably meant."""
    close = difflib.get_close_matches(name, allowed, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(sorted(allowed))}"
    return f"{method}() got an unexpected keyword argument {name!r}; {hint}"
