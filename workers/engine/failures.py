"""What an error of a run means for its turn: try again later, or end with a typed error.

429, 5xx, timeouts, broken connections       TransientModelError, with the pause the provider asked for
any other answer of the provider             ModelError, or the kind of it that says why
no output of the wanted type                 OutputInvalid
a tool that used up its tries                ToolError
an agent that cannot be run as it is made    TurnConfigurationError
anything else that an agent's own code raised  TurnFailed
"""

from __future__ import annotations

import re
from typing import Final

from pydantic_ai.exceptions import (
    AgentRunError,
    ContentFilterError,
    FallbackExceptionGroup,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelRetry,
    ModelServerError,
    ModelUnavailableError,
    RunCancelled,
    UnexpectedModelBehavior,
    UserError,
)

from sessions.errors import (
    ContentFiltered,
    ContextTooLong,
    ModelAccessDenied,
    ModelError,
    ModelQuotaExhausted,
    OutputInvalid,
    SessionfleetError,
    ToolError,
    TurnConfigurationError,
    TurnFailed,
)
from workers.engine.context_window import is_too_long
from workers.engine.ports import HandedOver, LeaseLost, TransientModelError, Waiting

_PASSING = (
    ModelRateLimitError,
    ModelUnavailableError,
    ModelServerError,
    ModelConnectionError,
    ModelRequestTimeout,
)
_FILTERED: Final = re.compile(r"content.?(filter|policy|management)|moderation|safety system", re.I)
_SAID_CHARS: Final = 300
_BROKEN: Final = (
    "ended without a `finish_reason`",
    "Failed to decode response as JSON",
    "Expected a JSON response",
)
"""What pydantic-ai says of streams that broke without an error, and of a proxy's page where an answer should be."""
_UNREADABLE: Final = "Invalid response from"
"""What it says of a 200 that holds something else, such as an error object."""
_PASSING_STATUS = frozenset({408, 409, 425, 429})
_OURS = (SessionfleetError, TransientModelError, HandedOver, LeaseLost, Waiting)


def classify(error: Exception) -> Exception:
    """The error to raise instead of this one; errors of our own stay as they are."""
    if isinstance(error, _OURS):
        return error
    if isinstance(error, FallbackExceptionGroup):
        return _of_fallback(error)
    if isinstance(error, RunCancelled):
        return TurnFailed(f"the agent cancelled its own run: {error}")
    if isinstance(error, ModelAPIError):
        return _of_provider(error)
    if isinstance(error, TimeoutError | ConnectionError):
        return TransientModelError(_said(error))
    if isinstance(error, ContentFilterError):
        return ContentFiltered(f"{ContentFiltered.__doc__} {error.message}")
    if isinstance(error, UnexpectedModelBehavior):
        return _of_behaviour(error)
    if isinstance(error, AgentRunError):
        return ModelError(str(error))
    if isinstance(error, UserError):
        return TurnConfigurationError(f"the agent cannot be run as it is configured: {error}")
    kind = type(error).__name__
    return TurnFailed(f"the agent raised {kind}; the worker's log has its text", exception=kind)


def _of_provider(error: ModelAPIError) -> Exception:
    if _may_pass(error) and not is_too_long(error):
        return TransientModelError(provider_said(error), error.retry_after)
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    kind = _kind_of_refusal(error)
    hint = "" if kind is ModelError else f" {kind.__doc__}"
    if kind is ContextTooLong:
        hint += " SESSIONFLEET_HISTORY_WINDOW and SESSIONFLEET_HISTORY_WINDOW_BYTES say how much history is sent."
    said = provider_said(error).rstrip(".")
    return kind(f"the model's provider refused the request: {said}.{hint}", status=status)


def _kind_of_refusal(error: ModelAPIError) -> type[ModelError]:
    if is_too_long(error):
        return ContextTooLong
    if isinstance(error, ModelQuotaExceededError):
        return ModelQuotaExhausted
    if isinstance(error, ModelAuthenticationError):
        return ModelAccessDenied
    return ContentFiltered if _FILTERED.search(str(error)) else ModelError


def provider_said(error: ModelAPIError) -> str:
    """The provider's own sentence, with model and status, instead of the whole body of its answer."""
    body = error.body
    while isinstance(body, dict) and isinstance(body.get("error"), dict | str):
        body = body["error"]
    said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    status = f"status {error.status_code}, " if isinstance(error, ModelHTTPError) else ""
    if not isinstance(said, str) or not said.strip():
        return str(error)[:_SAID_CHARS]
    return f"{status}model {error.model_name!r}: {' '.join(said.split())[:_SAID_CHARS]}"


def _may_pass(error: ModelAPIError) -> bool:
    if isinstance(error, ModelQuotaExceededError):  # a 429 that no waiting mends
        return False
    if isinstance(error, ModelHTTPError):
        return error.status_code in _PASSING_STATUS or error.status_code >= 500
    return isinstance(error, _PASSING) or any(said in str(error) for said in _BROKEN)


def _of_fallback(group: FallbackExceptionGroup) -> Exception:
    """All models of a fallback chain failed: worth another try if it is for one of them."""
    found = [classify(error) for error in group.exceptions]
    passing = [error for error in found if isinstance(error, TransientModelError)]
    if not passing:
        kinds = {type(error) for error in found if isinstance(error, ModelError)}
        kind = kinds.pop() if len(kinds) == 1 else ModelError
        return kind("; ".join(dict.fromkeys(map(str, found))))
    pauses = [error.retry_after for error in passing if error.retry_after is not None]
    return TransientModelError("; ".join(map(str, found)), min(pauses, default=None))


def _of_behaviour(error: UnexpectedModelBehavior) -> Exception:
    why = f" ({error.__cause__})" if error.__cause__ else ""
    if error.message.startswith("Exceeded maximum output retries"):
        return OutputInvalid(f"the model was asked again and still gave no valid output{why}")
    if error.message.startswith("Tool ") and "exceeded max retries" in error.message:
        cause = error.__cause__
        said = cause.message if isinstance(cause, ModelRetry) else str(cause or error.message)
        return ToolError(f"{error.message.partition('.')[0]}; it last said: {said}")
    if error.message.startswith(_UNREADABLE):
        return TransientModelError(f"the model's provider sent no answer: {error.message[:_SAID_CHARS]}")
    return ModelError(f"the model answered in a way that cannot be used: {error}{why}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
