"""Who asks, as the routes see it: a dependency that authenticates, applies limits, and opens the caller's sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, cast

from fastapi import Depends, Header, Request, Security
from fastapi.openapi import models as openapi
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from broker_config.settings import Settings
from sessions.client import FleetClient, get_client
from sessions.gateway.authenticator import Authenticator
from sessions.gateway.principal import Principal, Right
from sessions.session import Session


class Limits(Protocol):
    """Bounds what one credential may ask for."""

    def admit(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Count a request while it is open.

        Raises:
            TooManyRequests: the limit is reached; says when to come again.
        """
        ...


class NoLimits:
    """Whoever asks is let in."""

    def admit(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Let in."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class Gateway:
    """What all requests of a gateway share; `app.state.gateway`."""

    settings: Settings
    authenticator: Authenticator
    limits: Limits

    @property
    def client(self) -> FleetClient:
        """The one client of this process: a few connections, whoever asks."""
        return get_client(self.settings)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and for whom."""

    gateway: Gateway
    principal: Principal
    user: str | None

    def session(self, session_id: str | None, **options: Any) -> Session:
        """A session as this caller sees it.

        Raises:
            InvalidSessionId, BadRequest: an argument cannot be used.
        """
        return self.session_of(self.user, session_id, **options)

    def session_of(self, user: str | None, session_id: str | None, **options: Any) -> Session:
        """A session as a user sees it for whom this caller may ask (`principal.user_for`)."""
        return Session(session_id, user, tenant=self.principal.tenant, settings=self.gateway.settings, **options)


async def gateway_of(request: Request) -> Gateway:
    """The gateway that serves a request."""
    return cast(Gateway, request.app.state.gateway)


class _Shown(SecurityBase):
    """A way to say who one is, for OpenAPI; what a request has is read by the authenticator, in one place."""

    def __init__(self, name: str, model: openapi.SecurityBase) -> None:
        self.scheme_name = name
        self.model = model

    async def __call__(self) -> None:
        """Look at nothing."""


_BEARER = _Shown("bearer", openapi.HTTPBearer(description="An API key, or a JWT."))
_BASIC = _Shown("basic", openapi.HTTPBase(scheme="basic", description="An API key as the password."))
_API_KEY = _Shown("apiKey", openapi.APIKey.model_validate({"in": "header", "name": "X-API-Key"}))


async def caller(
    request: Request,
    scopes: SecurityScopes,
    gateway: Annotated[Gateway, Depends(gateway_of)],
    _bearer: Annotated[object, Depends(_BEARER)],
    _basic: Annotated[object, Depends(_BASIC)],
    _key: Annotated[object, Depends(_API_KEY)],
    x_user_id: Annotated[
        str | None,
        Header(description="For whom you ask, where your credential acts for users.", max_length=256),
    ] = None,
) -> AsyncIterator[Caller]:
    """Authenticate, check the rights that the route needs, and count the request while it is open.

    Raises:
        Unauthenticated, Forbidden, TooManyRequests, StoreUnavailable: it is not let in.
    """
    principal = await gateway.authenticator.principal(request.headers)
    for right in scopes.scopes:
        principal.need(Right(right))
    async with gateway.limits.admit(principal):
        yield Caller(gateway, principal, principal.user_for(x_user_id))


Reader = Annotated[Caller, Security(caller, scopes=[Right.READ.value])]
Writer = Annotated[Caller, Security(caller, scopes=[Right.WRITE.value])]
Approver = Annotated[Caller, Security(caller, scopes=[Right.APPROVE.value])]
Configurer = Annotated[Caller, Security(caller, scopes=[Right.CONFIGURE.value])]
