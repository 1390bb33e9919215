"""A remote server as a session uses it: what kind it is, messages to a plain one, requests to a gateway."""

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
"""A server that was never reached is tried no longer than this: the URL may be wrong."""
_SERVER: Final = "sessionfleet"


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """The server behind an agent_url.

    Attributes:
        headers: sent with every request; timeout: seconds for one call, including its retries.
    """

    address: Address
    headers: Mapping[str, str] = field(repr=False)
    timeout: float

    @property
    def network(self) -> Network:
        """This process's network: looked up at each use, so that a forked child gets its own."""
        return network()

    async def http(self) -> httpx.AsyncClient:
        """The connections to it."""
        return await self.network.http(self.address.origin)

    def sent(self, **more: str | None) -> httpx.Headers:
        """The headers of a request: ours (`idempotency_key` becomes Idempotency-Key), then those of the caller."""
        ours = {
            "user_agent": f"sessionfleet/{package_version()}",
            "authorization": self.address.credentials,
            **more,
        }
        # Bytes, because a user id may be any text.
        named = [
            (name.replace("_", "-").title().encode(), value.encode())
            for name, value in ours.items()
            if value is not None
        ]
        headers = httpx.Headers(named)
        headers.update(self.headers)
        return headers

    async def exchange(self, call: Call, within: float, *, trying: float | None = None) -> httpx.Response:
        """One call; see `sessions.remote.exchange`. After a failure, what kind of server it is is checked again."""
        try:
            http = await self.http()
            return await exchange(http, call, str(self.address), within, trying=trying)
        except RemoteUnavailable:
            self.network.gateways.pop(str(self.address.url), None)
            raise

    # --- what it is -------------------------------------------------------------------------------------

    async def is_gateway(self, within: float) -> bool:
        """Whether it is a Sessionfleet gateway; asked once for each address and process.

        Raises:
            RemoteError: there is no agent at this address, or it cannot be reached.
        """
        known, url = self.network.gateways, str(self.address.url)
        if url in known:
            return known[url]
        found = await self._look(within)
        if found is not None:
            known[url] = found
        return bool(found)

    async def need_gateway(self, within: float) -> None:
        """Check that it is a gateway.

        Raises:
            RemoteUnsupported: it is not. RemoteError: as `is_gateway`.
        """
        if not await self.is_gateway(within):
            raise RemoteUnsupported(f"{self.address}: {RemoteUnsupported.__doc__}")

    async def _look(self, within: float) -> bool | None:
        """Whether it is a gateway; None if its health check failed, and only a message can be tried."""
        until = time.monotonic() + within
        headers = self.sent(accept="application/json")
        try:
            health = await self.exchange(Call("GET", self.address.health, headers), within, trying=_FIRST_SECONDS)
        except RemoteError as error:
            if error.status is None:
                raise
            await self._knock(until - time.monotonic())
            return None if error.status == 429 or error.status >= 500 else False
        told = _json(health)
        return isinstance(told, dict) and told.get("server") == _SERVER

    async def _knock(self, within: float) -> None:
        """A server without a health check exists if it knows the agent's own URL: Flask answers 405."""
        call = Call("HEAD", self.address.url, self.sent())
        try:
            await self.exchange(call, max(0.001, within), trying=_FIRST_SECONDS)
        except RemoteRefused as error:
            if error.status != 405:
                raise

    # --- requests ---------------------------------------------------------------------------------------

    async def tell(self, message: str, fields: Mapping[str, Any], key: str, within: float) -> str:
        """Send a message to a server that is not a gateway, in both dialects; never again what may have arrived."""
        body = {**fields, "message": message, "query": message}
        call = Call("POST", self.address.url, self.sent(idempotency_key=key), json=body, repeatable=False)
        response = await self.exchange(call, within, trying=_FIRST_SECONDS)
        answer = _answer(response)
        if answer is None:
            status = response.status_code
            raise RemoteFailed(f"{self.address} answered {status}, but without an answer; see its log", status=status)
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
        """A request to a gateway's REST API.

        Args:
            path: after `/v1`, quoted.
            within: seconds for all tries, `timeout` when None; in addition to those that the gateway is asked to wait.
            wait: seconds that it may wait for something to end.
            body: `json`, or `data` and `files`; `params` of the query.

        Raises:
            RemoteUnsupported: it is not a gateway. RemoteError, or the error that the gateway's problem names.
        """
        patience = self.timeout if within is None else within
        until = time.monotonic() + patience
        await self.need_gateway(patience)
        headers = self.sent(
            accept="application/json",
            x_user_id=user,
            prefer=f"wait={int(wait)}" if wait and wait >= 1 else None,
            idempotency_key=key or uuid_utils.uuid4().hex,
        )
        call = Call(method, self.address.api(path), headers, repeatable=repeatable, **body)
        left = until - time.monotonic() + (wait or 0.0)
        if left <= 0:
            raise RemoteTimeout(f"{self.address} did not answer within {patience:g} s; the request was not sent")
        return await self.exchange(call, left)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _answer(response: httpx.Response) -> str | None:
    """PraisonAI's servers send `response`, other agent servers `content`; otherwise it is the text itself.

    PraisonAI's servers send None if their model fails.
    """
    told = _json(response)
    if isinstance(told, dict):
        for name in ("response", "content"):
            if name in told:
                said = told[name]
                return said if said is None or isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return told if isinstance(told, str) else response.text
