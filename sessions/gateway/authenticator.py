"""From a request's credentials to its caller."""

from __future__ import annotations

from typing import Protocol

from starlette.datastructures import Headers

from sessions.errors import Unauthenticated
from sessions.gateway.api_key import PREFIX
from sessions.gateway.api_keys import ApiKeys
from sessions.gateway.credential import credential_of
from sessions.gateway.principal import Principal
from sessions.gateway.tokens import Tokens


class Authenticator(Protocol):
    """Identifies the sender of a request."""

    async def principal(self, headers: Headers) -> Principal:
        """The sender, by the request's headers.

        Raises:
            Unauthenticated: no credential, or no valid one.
            StoreUnavailable: the store cannot be asked.
        """
        ...


class Everybody:
    """Authentication is off: credentials are ignored, and every caller has full access within one tenant."""

    def __init__(self, tenant: str) -> None:
        self._principal = Principal(tenant, acts_for_users=True)

    async def principal(self, headers: Headers) -> Principal:
        """The same principal for every request."""
        return self._principal


class Credentials:
    """Authentication is on: an API key, or a token if there are keys to verify one."""

    def __init__(self, api_keys: ApiKeys, tokens: Tokens | None) -> None:
        self._api_keys = api_keys
        self._tokens = tokens

    async def principal(self, headers: Headers) -> Principal:
        """The owner of the request's credential.

        Raises:
            Unauthenticated, StoreUnavailable: as above. TooManyRequests: too many unknown API keys are being tried.
        """
        credential = credential_of(headers)
        if credential.startswith(PREFIX):
            return await self._api_keys.principal(credential)
        if self._tokens is None:
            raise Unauthenticated(
                f"this is not an API key (they begin with {PREFIX!r}), and tokens are not accepted here"
            )
        return await self._tokens.principal(credential)
