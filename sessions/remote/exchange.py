"""One call to a remote server including its retries, within one time limit; failures are errors of our tree."""

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
"""A connection that takes longer is given up and retried."""
_PAUSES: Final = wait_random_exponential(multiplier=0.2, max=5.0)
_JSON: Final = (b"Content-Type", b"application/json")
_AGAIN: Final = frozenset({429, 502, 503, 504})


Cause = TypeVar("Cause", bound=BaseException)


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    Attributes:
        repeatable: whether the server recognises a second try, so that nothing is done twice. Otherwise a request is
            only
            sent again if it certainly never arrived.
        files: of a multipart body: name, bytes and content type; data: its other fields.
    """

    method: str
    url: httpx.URL
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    params: Mapping[str, Any] | None = None
    json: Any = None
    data: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None
    repeatable: bool = True


def _json(body: Any) -> bytes:
    """A body as UTF-8. Half of a surrogate pair, which state may contain, cannot be encoded: it is escaped."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


class _Passing(Exception):
    """A try that failed and may be followed by another one."""

    def __init__(self, error: SessionfleetError, pause: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


async def exchange(
    http: httpx.AsyncClient, call: Call, shown: str, within: float, *, trying: float | None = None
) -> httpx.Response:
    """The response to a call; tries end when there is one, when another cannot help, or when the time is over.

    Args:
        shown: the server's URL, as it may be shown.
        within: seconds for all tries together.
        trying: seconds after which no further try is begun; `within` when None.

    Raises:
        RemoteError, or the class that a gateway's problem names.
    """
    until = time.monotonic() + within
    patience = within if trying is None else min(trying, within)
    tries = AsyncRetrying(
        retry=retry_if_exception_type(_Passing), stop=stop_before_delay(patience), wait=_pause, reraise=True
    )
    try:
        return await tries(_once, http, call, shown, until, within)
    except _Passing as last:
        raise last.error from last.__cause__


def _pause(state: RetryCallState) -> float:
    """Growing, with jitter, and no shorter than the server asks for."""
    failed = state.outcome.exception() if state.outcome else None
    asked = failed.pause if isinstance(failed, _Passing) else 0.0
    return max(asked, _PAUSES(state))


async def _once(http: httpx.AsyncClient, call: Call, shown: str, until: float, within: float) -> httpx.Response:
    left = max(0.001, until - time.monotonic())
    try:
        async with asyncio.timeout(left):
            response = await http.request(
                call.method,
                call.url,
                headers=call.headers.raw if call.json is None else [*call.headers.raw, _JSON],
                params=call.params or None,
                content=None if call.json is None else _json(call.json),
                data=call.data,
                files=call.files,
                timeout=httpx.Timeout(left, connect=min(left, CONNECT_SECONDS)),
            )
    except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
        raise_for(error, shown, within, repeatable=call.repeatable)
    if response.is_success:
        return response
    refused = error_of(response, shown)
    # Not SessionBusy and similar errors: those are answers for the caller to act on, as locally.
    if response.status_code in _AGAIN and call.repeatable and isinstance(refused, BackendError):
        raise _Passing(refused, retry_after(response))
    raise refused


def raise_for(error: Exception, shown: str, within: float, *, repeatable: bool) -> NoReturn:
    """Raise the error for a failure of the connection.

    Raises:
        RemoteError: another try cannot help, or must not be made. _Passing: another try may help.
    """
    if (tls := _cause(error, ssl.SSLError)) is not None:
        raise _tls_error(tls, shown) from error
    match error:
        case httpx.ConnectError():
            raise _Passing(RemoteUnavailable(f"{shown} cannot be reached ({_reason(error)}): {_CHECK}")) from error
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            raise _Passing(RemoteTimeout(f"could not connect to {shown}: {_CHECK}")) from error
        case httpx.TimeoutException() | TimeoutError():
            raise RemoteTimeout(
                f"{shown} did not answer within {round(within, 1):g} s; it is unknown whether the request was "
                "carried out"
            ) from error
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            raise RemoteRefused(f"{shown} cannot be called: {error}") from error
        case httpx.TransportError():
            broken = RemoteUnavailable(
                f"the connection to {shown} broke ({_named(error)}); it is unknown whether the request was carried out"
            )
            if repeatable:
                raise _Passing(broken) from error
            raise broken from error
        case _:
            raise RemoteFailed(f"the response of {shown} cannot be parsed: {_named(error)}") from error


_CHECK: Final = "check agent_url, and that the server is running"
_TRUST: Final = "SSL_CERT_FILE names a file with the authority to trust"


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tls_error(error: ssl.SSLError, shown: str) -> RemoteUnavailable:
    """A try within the next seconds would not find another certificate, or TLS where there is none."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return RemoteUntrusted(f"the certificate of {shown} cannot be verified: {error.verify_message}. {_TRUST}")
    return RemoteUnavailable(f"could not open a TLS connection to {shown} ({error.reason or error}): does it use http?")


def _reason(error: BaseException) -> str:
    """The system's message; httpx only says that all attempts failed."""
    said = _cause(error, OSError, lambda cause: cause.errno is not None)
    if said is None or said.errno is None:
        return str(error)
    return os.strerror(said.errno) if said.errno > 0 else str(said.strerror)  # a resolver's error numbers are below 0


def _cause(error: BaseException, kind: type[Cause], fits: Callable[[Cause], bool] = lambda _: True) -> Cause | None:
    """The first exception of a kind, among an exception and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind) and fits(cause):
            return cause
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__
    return None
