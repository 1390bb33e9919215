"""From a request's credentials to who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sessions.gateway.principal import Principal


class Authenticator(Protocol):
    """Tells who sends a request."""

    async def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who sends it, by its headers (names in lower case).

        Raises:
            Unauthenticated: no credential, or none that is good.
            StoreUnavailable: nobody can tell now.
        """
        ...


class Everybody:
    """Authentication is off: credentials are ignored, and whoever asks may do everything within one tenant."""

    def __init__(self, tenant: str) -> None:
        self._principal = Principal(tenant, acts_for_users=True)

    async def principal(self, headers: Mapping[str, str]) -> Principal:
        """The same one for all."""
        return self._principal
