"""From a request's credentials to who asks."""

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
    """Tells who sends a request."""

    async def principal(self, headers: Headers) -> Principal:
        """Who sends it, by its headers.

        Raises:
            Unauthenticated: no credential, or none that is good.
            StoreUnavailable: nobody can tell now.
        """
        ...


class Everybody:
    """Authentication is off: credentials are ignored, and whoever asks may do everything within one tenant."""

    def __init__(self, tenant: str) -> None:
        self._principal = Principal(tenant, acts_for_users=True)

    async def principal(self, headers: Headers) -> Principal:
        """The same one for all."""
        return self._principal


class Credentials:
    """Authentication is on: an API key, or a token where there are keys to verify one."""

    def __init__(self, api_keys: ApiKeys, tokens: Tokens | None) -> None:
        self._api_keys = api_keys
        self._tokens = tokens

    async def principal(self, headers: Headers) -> Principal:
        """Whose credential the request has.

        Raises:
            Unauthenticated, StoreUnavailable: as above. TooManyRequests: unknown API keys pour in.
        """
        credential = credential_of(headers)
        if credential.startswith(PREFIX):
            return await self._api_keys.principal(credential)
        if self._tokens is None:
            raise Unauthenticated(f"this is no API key (they begin with {PREFIX!r}), and tokens are not taken here")
        return await self._tokens.principal(credential)
