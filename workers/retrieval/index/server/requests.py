"""Sends requests to a Qdrant server, retries transient failures, and translates errors.

All requests of the index are idempotent, so that a request whose reply was lost is simply repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from json import JSONDecodeError
from typing import Final, TypeVar

import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from sessions.errors import IndexUnavailable

T = TypeVar("T")

_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_REFUSALS: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
# A reply that is not JSON raises JSONDecodeError; a Retry-After header with a date raises QdrantException.
_ERRORS: Final = (ResponseHandlingException, UnexpectedResponse, QdrantException, JSONDecodeError)


class NoCollection(Exception):
    """The collection does not exist on the server."""


class CollectionExists(Exception):
    """Another process has created the collection."""


class Requests:
    """Sends requests to one server."""

    def __init__(self, server: str, *, attempts: int = 4, first_pause: float = 0.2, longest_pause: float = 3.0) -> None:
        """Configure the retries.

        Args:
            server: the server's address, for error messages.
            attempts: the maximum number of attempts, including the first.
            first_pause: the approximate pause before the second attempt, in seconds; it doubles each time.
            longest_pause: the maximum pause in seconds, even if the server asks for a longer one.
        """
        self._server = server
        self._attempts = attempts
        self._backoff = wait_random_exponential(multiplier=first_pause, max=longest_pause)
        self._longest_pause = longest_pause

    async def send(self, request: Callable[[], Awaitable[T]]) -> T:
        """Send a request, and retry it after transient failures.

        Raises:
            NoCollection, CollectionExists: the server's reply.
            IndexUnavailable: the server cannot be reached, or refuses the request.
        """

        async def attempt() -> T:
            return await request()

        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(self._attempts),
            wait=self._pause,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except _ERRORS as error:
            raise self._translated(error) from error

    def _pause(self, state: RetryCallState) -> float:
        """The pause that the server asked for, up to the maximum; otherwise exponential backoff."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ResourceExhaustedResponse):
            return min(float(error.retry_after_s), self._longest_pause)
        return self._backoff(state)

    def _translated(self, error: Exception) -> Exception:
        match error:
            case UnexpectedResponse(status_code=HTTPStatus.NOT_FOUND) if b"collection" in error.content.lower():
                return NoCollection(_body(error))
            case UnexpectedResponse(status_code=HTTPStatus.CONFLICT):
                return CollectionExists(_body(error))
            case UnexpectedResponse(status_code=HTTPStatus.BAD_REQUEST) if b"already exists" in error.content:
                return CollectionExists(_body(error))
            case UnexpectedResponse(status_code=HTTPStatus.UNAUTHORIZED):
                reason = "denies access (401); set QDRANT_API_KEY to a key of the server"
            case UnexpectedResponse(status_code=HTTPStatus.FORBIDDEN):
                reason = "denies access (403); QDRANT_API_KEY must be a key that may write"
            case UnexpectedResponse(status_code=status):
                full = "No space left" in _body(error)
                advice = "make room on its disk" if full else "check QDRANT_URL and the server's log"
                reason = f"answered {status}: {_body(error)}; {advice}"
            case ResponseHandlingException(source=httpx.TransportError() as source):
                reason = f"cannot be reached ({type(source).__name__}: {source}); {_remedy(source)}"
            case ResponseHandlingException() | JSONDecodeError():
                reason = "sent a reply that is not Qdrant's; check QDRANT_URL"
            case _:
                reason = f"is busy ({error}); try again later"
        return IndexUnavailable(f"Qdrant at {self._server!r} {reason}")


def is_refusal(error: Exception) -> bool:
    """Whether `send` raised this because the server does not accept what was sent."""
    return isinstance(error.__cause__, UnexpectedResponse) and error.__cause__.status_code in _REFUSALS


def _is_transient(error: BaseException) -> bool:
    match error:
        case UnexpectedResponse(status_code=status):
            return status in _TRANSIENT
        case ResponseHandlingException(source=source):
            # Retrying does not make a certificate trusted.
            return isinstance(source, httpx.TransportError) and not _is_untrusted(source)
        case _:
            return isinstance(error, QdrantException)


def _is_untrusted(error: Exception) -> bool:
    return "CERTIFICATE" in str(error)


def _remedy(error: Exception) -> str:
    if _is_untrusted(error):
        return "set SSL_CERT_FILE to the certificates of its authority"
    return "check that it is running, and QDRANT_URL: its host, its port, http or https"


def _body(error: UnexpectedResponse) -> str:
    return " ".join(error.content.decode(errors="replace").split())[:300]
