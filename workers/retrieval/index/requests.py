"""Requests to a Qdrant server: sent again when the reason may pass, and its errors as ours.

Everything the index asks for may be done twice, so that a request whose reply was lost is simply sent again.
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

_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
# An answer that is no JSON comes as JSONDecodeError; a pause that is named as a date as QdrantException.
_ERRORS: Final = (ResponseHandlingException, UnexpectedResponse, QdrantException, JSONDecodeError)


class NoCollection(Exception):
    """The server knows no such collection."""


class CollectionExists(Exception):
    """Another process made the collection meanwhile."""


class Requests:
    """Sends requests to one server."""

    def __init__(self, server: str, *, attempts: int = 4, first_pause: float = 0.2, longest_pause: float = 3.0) -> None:
        """How often and how patiently to ask.

        Args:
            server: its address, for messages.
            attempts: of each request, the first one included.
            first_pause: about how long to wait before the second attempt, in seconds; then twice as long, and so on.
            longest_pause: between two attempts, in seconds, also where the server asks for more.
        """
        self._server = server
        self._attempts = attempts
        self._backoff = wait_random_exponential(multiplier=first_pause, max=longest_pause)
        self._longest_pause = longest_pause

    async def send(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request, and make it again while the reason may pass.

        Raises:
            NoCollection, CollectionExists: as the server said.
            IndexUnavailable: it cannot be reached, or refuses.
        """

        async def attempt() -> T:
            return await request()

        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(self._attempts),
            wait=self._pause,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except _ERRORS as error:
            raise self._translated(error) from error

    def _pause(self, state: RetryCallState) -> float:
        """As long as the server asked for, within bounds, else longer each time."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ResourceExhaustedResponse):
            return min(float(error.retry_after_s), self._longest_pause)
        return self._backoff(state)

    def _translated(self, error: Exception) -> Exception:
        match error:
            case UnexpectedResponse(status_code=HTTPStatus.NOT_FOUND) if b"collection" in error.content.lower():
                return NoCollection(_said(error))
            case UnexpectedResponse(status_code=HTTPStatus.CONFLICT):
                return CollectionExists(_said(error))
            case UnexpectedResponse(status_code=HTTPStatus.BAD_REQUEST) if b"already exists" in error.content:
                return CollectionExists(_said(error))
            case UnexpectedResponse(status_code=status) if status in _REFUSED:
                reason = f"refuses us ({status}); check QDRANT_API_KEY"
            case UnexpectedResponse(status_code=status):
                reason = f"answered {status}: {_said(error)}; check QDRANT_URL and the server's log"
            case ResponseHandlingException(source=httpx.TransportError() as source):
                reason = f"cannot be reached ({type(source).__name__}: {source}); check QDRANT_URL"
            case ResponseHandlingException() | JSONDecodeError():
                reason = "sent what Qdrant would not; check QDRANT_URL"
            case _:
                reason = f"is busy ({error}); try again later"
        return IndexUnavailable(f"Qdrant at {self._server!r} {reason}")


def _may_pass(error: BaseException) -> bool:
    match error:
        case UnexpectedResponse(status_code=status):
            return status in _PASSING
        case ResponseHandlingException(source=source):
            # A certificate that is not trusted stays so.
            return isinstance(source, httpx.TransportError) and "CERTIFICATE" not in str(source)
        case _:
            return isinstance(error, QdrantException)


def _said(error: UnexpectedResponse) -> str:
    return " ".join(error.content.decode(errors="replace").split())[:300]
