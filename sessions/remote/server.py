"""Requests to a remote server: whether it is a gateway, messages to one that is not, and calls of a gateway's API."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import uuid_utils

from broker_config.version import package_version
from sessions.errors import (
    RemoteError,
    RemoteFailed,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnavailable,
    RemoteUnsupported,
)
from sessions.remote.address import Address
from sessions.remote.exchange import Call, exchange
from sessions.remote.network import Network, network

_FIRST_SECONDS: Final = 5.0
"""Seconds for which the first request to a server is retried: not longer, because the URL may be wrong."""
_SERVER: Final = "sessionfleet"


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """The server of an agent_url.

    Attributes:
        headers: sent with every request; timeout: seconds for one call, retries included.
    """

    address: Address
    headers: Mapping[str, str] = field(repr=False)
    timeout: float

    @property
    def network(self) -> Network:
        """This process's network; looked up at each use, because a forked child needs its own."""
        return network()

    async def http(self) -> httpx.AsyncClient:
        """The connection pool for this server."""
        return await self.network.http(self.address.origin)

    def request_headers(self, **more: str | None) -> httpx.Headers:
        """The headers of a request: ours (`idempotency_key` becomes Idempotency-Key), then the caller's."""
        ours = {
            "user_agent": f"sessionfleet/{package_version()}",
            "authorization": self.address.credentials,
            **more,
        }
        # Bytes, because a user's id may contain any characters.
        encoded = [
            (name.replace("_", "-").title().encode(), value.encode())
            for name, value in ours.items()
            if value is not None
        ]
        headers = httpx.Headers(encoded)
        headers.update(self.headers)
        return headers

    async def exchange(self, call: Call, within: float, *, retry_within: float | None = None) -> httpx.Response:
        """One call; see `sessions.remote.exchange`. If the server cannot be reached, its kind is forgotten."""
        try:
            http = await self.http()
            return await exchange(http, call, str(self.address), within, retry_within=retry_within)
        except RemoteUnavailable:
            self.network.gateways.pop(str(self.address.url), None)
            raise

    # --- its kind ---------------------------------------------------------------------------------------

    async def is_gateway(self, within: float) -> bool:
        """Whether it is a Sessionfleet gateway; probed once for each URL and process.

        Raises:
            RemoteError: there is no agent at this URL, or it cannot be reached.
        """
        known, url = self.network.gateways, str(self.address.url)
        if url in known:
            return known[url]
        found = await self._probe(within)
        if found is not None:
            known[url] = found
        return bool(found)

    async def require_gateway(self, within: float) -> None:
        """Check that it is a gateway.

        Raises:
            RemoteUnsupported: it is not. RemoteError: as `is_gateway`.
        """
        if not await self.is_gateway(within):
            raise RemoteUnsupported(f"{self.address}: {RemoteUnsupported.__doc__}")

    async def _probe(self, within: float) -> bool | None:
        """Whether it is a gateway; None if its health page failed, so that only a message can be tried."""
        until = time.monotonic() + within
        headers = self.request_headers(accept="application/json")
        try:
            health = await self.exchange(Call("GET", self.address.health, headers), within, retry_within=_FIRST_SECONDS)
        except RemoteError as error:
            if error.status is None:
                raise
            await self._check_url(until - time.monotonic())
            return None if error.status == 429 or error.status >= 500 else False
        body = _json(health)
        return isinstance(body, dict) and body.get("server") == _SERVER

    async def _check_url(self, within: float) -> None:
        """Check that a server without a health page has the agent's URL: 405 (from Flask) means that it does."""
        call = Call("HEAD", self.address.url, self.request_headers())
        try:
            await self.exchange(call, max(0.001, within), retry_within=_FIRST_SECONDS)
        except RemoteRefused as error:
            if error.status != 405:
                raise

    # --- requests -----------------------------------------------------------------------------------------

    async def send_message(self, message: str, fields: Mapping[str, Any], key: str, within: float) -> str:
        """Send a message to a server that is not a gateway, in both known formats; never twice."""
        body = {**fields, "message": message, "query": message}
        call = Call("POST", self.address.url, self.request_headers(idempotency_key=key), json=body, repeatable=False)
        response = await self.exchange(call, within, retry_within=_FIRST_SECONDS)
        answer = _answer(response)
        if answer is None:
            status = response.status_code
            raise RemoteFailed(f"{self.address} answered {status} without an answer; see its log", status=status)
        return answer

    async def api(
        self,
        method: str,
        path: str,
        *,
        user: str | None,
        within: float | None = None,
        wait: float | None = None,
        key: str | None = None,
        repeatable: bool = True,
        **body: Any,
    ) -> httpx.Response:
        """Send a request to a gateway's REST API.

        Args:
            path: after `/v1`, quoted.
            within: seconds for all tries, in addition to `wait`; None for the session's timeout.
            wait: seconds that the gateway may wait for something to end.
            body: `json`, `raw`, or `data` and `files`; `params` of the query.

        Raises:
            RemoteUnsupported: it is not a gateway. RemoteError, or the class that the gateway's problem names.
        """
        limit = self.timeout if within is None else within
        until = time.monotonic() + limit
        await self.require_gateway(limit)
        headers = self.request_headers(
            accept="application/json",
            x_user_id=user,
            prefer=f"wait={int(wait)}" if wait and wait >= 1 else None,
            idempotency_key=key or uuid_utils.uuid4().hex,
        )
        call = Call(method, self.address.api(path), headers, repeatable=repeatable, **body)
        left = until - time.monotonic() + (wait or 0.0)
        if left <= 0:
            raise RemoteTimeout(f"{self.address} did not respond within {limit:g} s; the request was not sent")
        return await self.exchange(call, left)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _answer(response: httpx.Response) -> str | None:
    """The answer: in the field `response` (PraisonAI's servers) or `content` (other agent servers), or the body itself.

    None if there is none, which is how PraisonAI's servers report that their model failed.
    """
    body = _json(response)
    if isinstance(body, dict):
        for name in ("response", "content"):
            if name in body:
                answer = body[name]
                return answer if answer is None or isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    return body if isinstance(body, str) else response.text
