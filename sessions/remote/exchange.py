"""One call to a remote server, with retries and a total timeout. Failures become errors of `sessions.errors`."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_before_delay, wait_random_exponential

from sessions.errors import (
    BackendError,
    RemoteFailed,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnavailable,
    RemoteUntrusted,
    SessionfleetError,
)
from sessions.remote.problems import error_of, retry_after

CONNECT_SECONDS: Final = 5.0
"""An attempt to connect that takes longer is given up and repeated."""
_PAUSES: Final = wait_random_exponential(multiplier=0.2, max=5.0)
_JSON: Final = (b"Content-Type", b"application/json")
RETRIED_STATUSES: Final = frozenset({429, 502, 503, 504})


Cause = TypeVar("Cause", bound=BaseException)


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    Attributes:
        repeatable: whether the server recognises a repeat, so that nothing is done twice. If not, a request is only
            sent again if it certainly did not reach the server.
        raw: a body that is neither JSON nor a form: its bytes and content type.
        files: of a multipart body: name, bytes and content type; data: its other fields.
    """

    method: str
    url: httpx.URL
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    params: Mapping[str, Any] | None = None
    json: Any = None
    raw: tuple[bytes, str] | None = None
    data: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None
    repeatable: bool = True


def _json(body: Any) -> bytes:
    """A body in UTF-8. Half of a surrogate pair, which state may contain, cannot be encoded, so it is escaped."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


def _content_type(call: Call) -> list[tuple[bytes, bytes]]:
    if call.raw is not None:
        return [(b"Content-Type", call.raw[1].encode())]
    return [] if call.json is None else [_JSON]


def _body(call: Call) -> bytes | None:
    if call.raw is not None:
        return call.raw[0]
    return None if call.json is None else _json(call.json)


class _Retryable(Exception):
    """A try that failed and may be repeated.

    Attributes:
        error: what to raise if there are no more tries; pause: seconds that the server asks us to wait.
    """

    def __init__(self, error: SessionfleetError, pause: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


async def exchange(
    http: httpx.AsyncClient, call: Call, server: str, within: float, *, retry_within: float | None = None
) -> httpx.Response:
    """The response to a call. Retries failures that may pass, until the time is over.

    Args:
        server: the server's URL without credentials, for errors.
        within: seconds for all tries together.
        retry_within: seconds after which no further try is made; None for `within`.

    Raises:
        RemoteError, or the class that a gateway's problem names.
    """
    until = time.monotonic() + within
    retry_seconds = within if retry_within is None else min(retry_within, within)
    tries = AsyncRetrying(
        retry=retry_if_exception_type(_Retryable), stop=stop_before_delay(retry_seconds), wait=_pause, reraise=True
    )
    try:
        return await tries(_once, http, call, server, until, within)
    except _Retryable as last:
        raise last.error from last.__cause__


def _pause(state: RetryCallState) -> float:
    """Exponential and random, and no shorter than the server asks for."""
    failed = state.outcome.exception() if state.outcome else None
    requested = failed.pause if isinstance(failed, _Retryable) else 0.0
    return max(requested, _PAUSES(state))


async def _once(http: httpx.AsyncClient, call: Call, server: str, until: float, within: float) -> httpx.Response:
    left = max(0.001, until - time.monotonic())
    try:
        async with asyncio.timeout(left):
            response = await http.request(
                call.method,
                call.url,
                headers=[*call.headers.raw, *_content_type(call)],
                params=call.params or None,
                content=_body(call),
                data=call.data,
                files=call.files,
                timeout=httpx.Timeout(left, connect=min(left, CONNECT_SECONDS)),
            )
    except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
        raise_for(error, server, within, repeatable=call.repeatable)
    if response.is_success:
        return response
    refused = error_of(response, server)
    # Not SessionBusy and the like: those are for the caller to handle, as in a local session.
    if response.status_code in RETRIED_STATUSES and call.repeatable and isinstance(refused, BackendError):
        raise _Retryable(refused, retry_after(response))
    raise refused


def raise_for(error: Exception, server: str, within: float, *, repeatable: bool) -> NoReturn:
    """Raise the error that a failed request amounts to.

    Raises:
        RemoteError: another try would not help, or must not be made. _Retryable: another try may be made.
    """
    if (tls := _cause(error, ssl.SSLError)) is not None:
        raise _tls_error(tls, server) from error
    match error:
        case httpx.ConnectError():
            raise _Retryable(RemoteUnavailable(f"{server} cannot be reached ({_reason(error)}): {_CHECK}")) from error
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            raise _Retryable(RemoteTimeout(f"connecting to {server} took too long: {_CHECK}")) from error
        case httpx.TimeoutException() | TimeoutError():
            raise RemoteTimeout(f"{server} did not respond within {round(within, 1):g} s; {_UNKNOWN}") from error
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            raise RemoteRefused(f"this request cannot be sent to {server}: {error}") from error
        case httpx.TransportError():
            broken = RemoteUnavailable(f"the connection to {server} broke ({_described(error)}); {_UNKNOWN}")
            if repeatable:
                raise _Retryable(broken) from error
            raise broken from error
        case _:
            raise RemoteFailed(f"the response of {server} cannot be read: {_described(error)}") from error


_UNKNOWN: Final = "it is unknown whether the request was carried out"
_CHECK: Final = "check agent_url, and that the server is running"
_TRUST: Final = "set SSL_CERT_FILE to a file with the authority to trust"


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tls_error(error: ssl.SSLError, server: str) -> RemoteUnavailable:
    """The error for a failed TLS handshake. It is not retried, because the next one would fail too."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return RemoteUntrusted(f"the certificate of {server} cannot be verified: {error.verify_message}. {_TRUST}")
    return RemoteUnavailable(f"the TLS handshake with {server} failed ({error.reason or error}): does it speak http?")


def _reason(error: BaseException) -> str:
    """The operating system's reason; httpx only says that all attempts failed."""
    reason = _cause(error, OSError, lambda cause: cause.errno is not None)
    if reason is None or reason.errno is None:
        return str(error)
    return os.strerror(reason.errno) if reason.errno > 0 else str(reason.strerror)  # resolver errors are negative


def _cause(error: BaseException, kind: type[Cause], fits: Callable[[Cause], bool] = lambda _: True) -> Cause | None:
    """The first error of this kind among an exception and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind) and fits(cause):
            return cause
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__
    return None
