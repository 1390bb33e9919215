"""Classifies the errors of a run: the turn is retried later, or ends with a typed error.

429, 5xx, timeouts, broken connections         TransientModelError, with the delay that the provider asked for
a 200 with something else than a response      TransientModelError
any other error response of the provider       ModelError, or the subclass that says why
no output of the required type                 OutputInvalid
a tool that used up its retries                ToolError
an agent that is not configured correctly      TurnConfigurationError
any other exception of the agent's own code    TurnFailed
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    UnsupportedMedia,
)
from workers.engine.attachments import refuses_files
from workers.engine.context_window import is_too_long
from workers.engine.limited_model import limit_of
from workers.engine.ports import HandedOver, LeaseLost, ModelLimit, TransientModelError, Waiting

_TRANSIENT = (
    ModelRateLimitError,
    ModelUnavailableError,
    ModelServerError,
    ModelConnectionError,
    ModelRequestTimeout,
)
_FILTERED: Final = re.compile(r"content.?(filter|policy|management)|moderation|safety system", re.I)
_MESSAGE_CHARS: Final = 300
_BROKEN_STREAM: Final = (
    "ended without a `finish_reason`",
    "Failed to decode response as JSON",
    "Expected a JSON response",
)
"""pydantic-ai's messages for streams that end early, and for a proxy's HTML page instead of a response."""
_UNREADABLE: Final = "Invalid response from"
"""pydantic-ai's message for a 200 whose body is something else, such as an error object."""
_CLIENTS: Final = "pydantic_ai.models."
_NO_CLIENTS: Final = frozenset({f"{_CLIENTS}function", f"{_CLIENTS}test"})
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
_OURS = (SessionfleetError, TransientModelError, HandedOver, LeaseLost, Waiting)


def classify(error: Exception) -> Exception:
    """The error to raise instead of this one; Sessionfleet's own errors are returned unchanged."""
    if isinstance(error, _OURS):
        return error
    if isinstance(error, FallbackExceptionGroup):
        return _classify_fallback(error)
    if isinstance(error, RunCancelled):
        return TurnFailed(f"the agent cancelled its own run: {error}")
    if isinstance(error, ModelAPIError):
        return _classify_api_error(error)
    if isinstance(error, TimeoutError | ConnectionError):
        return TransientModelError(_describe(error))
    if isinstance(error, ContentFilterError):
        return ContentFiltered(f"{ContentFiltered.__doc__} {error.message}")
    if isinstance(error, UnexpectedModelBehavior):
        return _classify_behaviour(error)
    if isinstance(error, AgentRunError):
        return ModelError(str(error))
    if isinstance(error, UserError):
        return TurnConfigurationError(f"the agent cannot be run as it is configured: {error}")
    return _classify_other(error)


def _classify_api_error(error: ModelAPIError) -> Exception:
    if _is_transient(error) and not is_too_long(error) and not refuses_files(error):
        return TransientModelError(provider_message(error), error.retry_after, limit_of(error))
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    kind = _kind_of_refusal(error)
    hint = "" if kind is ModelError else f" {kind.__doc__}"
    if kind is ContextTooLong:
        hint += " SESSIONFLEET_HISTORY_TOKENS limits how much history is sent."
    message = provider_message(error).rstrip(".")
    return kind(f"the model's provider refused the request: {message}.{hint}", status=status)


def _kind_of_refusal(error: ModelAPIError) -> type[ModelError]:
    if is_too_long(error):
        return ContextTooLong
    if isinstance(error, ModelQuotaExceededError):
        return ModelQuotaExhausted
    if isinstance(error, ModelAuthenticationError):
        return ModelAccessDenied
    if _FILTERED.search(str(error)):
        return ContentFiltered
    return UnsupportedMedia if refuses_files(error) else ModelError


def provider_message(error: ModelAPIError) -> str:
    """The provider's error message with model and status, extracted from the body of its response."""
    body = error.body
    while isinstance(body, dict) and isinstance(body.get("error"), dict | str):
        body = body["error"]
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    status = f"status {error.status_code}, " if isinstance(error, ModelHTTPError) else ""
    if not isinstance(message, str) or not message.strip():
        return str(error)[:_MESSAGE_CHARS]
    return f"{status}model {error.model_name!r}: {' '.join(message.split())[:_MESSAGE_CHARS]}"


def _is_transient(error: ModelAPIError) -> bool:
    if isinstance(error, ModelQuotaExceededError):  # a 429 that waiting does not help
        return False
    if isinstance(error, ModelHTTPError):
        return error.status_code in _TRANSIENT_STATUS or error.status_code >= 500
    return isinstance(error, _TRANSIENT) or any(text in str(error) for text in _BROKEN_STREAM)


def _classify_fallback(group: FallbackExceptionGroup) -> Exception:
    """All models of a fallback chain failed. A retry is worthwhile if one of the errors is transient."""
    found = [classify(error) for error in group.exceptions]
    transient = [error for error in found if isinstance(error, TransientModelError)]
    if not transient:
        kinds = {type(error) for error in found if isinstance(error, ModelError)}
        kind = kinds.pop() if len(kinds) == 1 else ModelError
        return kind("; ".join(dict.fromkeys(map(str, found))))
    pauses = [error.retry_after for error in transient if error.retry_after is not None]
    return TransientModelError("; ".join(map(str, found)), min(pauses, default=None), _soonest(transient))


def _soonest(errors: Sequence[TransientModelError]) -> ModelLimit | None:
    """The limit that ends first, if limits are all that keeps the models of a chain from answering."""
    if any(error.limit is None for error in errors):
        return None
    return min(errors, key=lambda error: error.retry_after or 0.0).limit


def _classify_behaviour(error: UnexpectedModelBehavior) -> Exception:
    why = f" ({error.__cause__})" if error.__cause__ else ""
    if error.message.startswith("Exceeded maximum output retries"):
        return OutputInvalid(f"the model gave no valid output, although it was asked again{why}")
    if error.message.startswith("Tool ") and "exceeded max retries" in error.message:
        cause = error.__cause__
        last = cause.message if isinstance(cause, ModelRetry) else str(cause or error.message)
        return ToolError(f"{error.message.partition('.')[0]}; its last message: {last}")
    if error.message.startswith(_UNREADABLE):
        return TransientModelError(f"the model's provider sent no valid response: {error.message[:_MESSAGE_CHARS]}")
    return ModelError(f"the model's response cannot be used: {error}{why}")


def _classify_other(error: Exception) -> Exception:
    kind = type(error).__name__
    if _is_misread_answer(error):
        return TransientModelError(f"the model's provider sent no valid response: its client raised {kind}")
    return TurnFailed(f"the agent raised {kind}; the worker's log has its text", exception=kind)


def _is_misread_answer(error: Exception) -> bool:
    """Whether the client of a model broke over a response: a 200 with something else, such as an error object.

    Only the code that reads responses raises there; agents, tools and the models of tests are elsewhere.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return module.startswith(_CLIENTS) and module not in _NO_CLIENTS


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
