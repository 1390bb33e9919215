"""The caller, as the routes see it: a dependency that checks rights and opens the caller's sessions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Header, Request, Security
from fastapi.openapi import models as openapi
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from broker_config.settings import Settings
from sessions.api.session import Session
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.errors import BadRequest, Forbidden, Unauthenticated
from sessions.gateway.documents import AT_ONCE
from sessions.gateway.gatekeeper import principal_in
from sessions.gateway.principal import Principal, Right

DEFAULT_QUEUE: Final = "turns"


@dataclass(frozen=True, slots=True)
class Gateway:
    """What all requests of a gateway share; `app.state.gateway`."""

    settings: Settings
    documents: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    @property
    def client(self) -> FleetClient:
        """The one client of this process: a few connections for all callers."""
        return get_client(self.settings)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, and for which user."""

    gateway: Gateway
    principal: Principal
    user: str | None

    def session(self, session_id: str | None, **options: Any) -> Session:
        """A session as this caller sees it.

        Raises:
            InvalidSessionId, BadRequest: an argument is not valid.
        """
        return self.session_of(self.user, session_id, **options)

    def user_or(self, named: str | None) -> str | None:
        """The user the request acts for, if its body or path may name one too.

        Raises:
            Forbidden: the caller may not act for that user, or X-User-ID names another one. A proxy that sets the
                header knows the user; a body comes from the client itself.
        """
        if named is None:
            return self.user
        if self.user not in (self.principal.user, named):
            raise Forbidden(f"X-User-ID says {self.user!r}, and the request also names {named!r}: name one of them")
        return self.principal.user_for(named)

    def may_use(self, queue: str) -> None:
        """Refuse special queues to callers who may not choose them.

        Raises:
            Forbidden: the right `configure` is missing.
        """
        if queue != DEFAULT_QUEUE:
            self.principal.need(Right.CONFIGURE)

    def session_of(self, user: str | None, session_id: str | None, **options: Any) -> Session:
        """A session as seen by a user that this caller may act for (`principal.user_for`)."""
        return Session(session_id, user, tenant=self.principal.tenant, settings=self.gateway.settings, **options)


async def gateway_of(request: Request) -> Gateway:
    """The gateway that serves a request."""
    return cast(Gateway, request.app.state.gateway)


class _Shown(SecurityBase):
    """An authentication scheme, for OpenAPI only; the authenticator reads the credentials, in one place."""

    def __init__(self, name: str, model: openapi.SecurityBase) -> None:
        self.scheme_name = name
        self.model = model

    async def __call__(self) -> None:
        """Check nothing."""


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
        Header(description="The user you act for, if your credential acts for users; UTF-8.", max_length=256),
    ] = None,
) -> Caller:
    """The caller that the gatekeeper identified, with the right that the route needs.

    Raises:
        Forbidden: the right is missing. BadRequest: the request names two different users.
    """
    principal = principal_in(request.scope)
    if principal is None:  # there is no gatekeeper in front of this application
        raise Unauthenticated
    for right in scopes.scopes:
        principal.need(Right(right))
    if len(set(request.headers.getlist("x-user-id"))) > 1:
        raise BadRequest("the request has several X-User-ID headers, and they differ")
    return Caller(gateway, principal, principal.user_for(_utf8(x_user_id)))


def _utf8(header: str | None) -> str | None:
    """A header as it was meant: user names are sent as UTF-8, and frameworks read headers as Latin-1.

    Raises:
        BadRequest: it is not UTF-8.
    """
    try:
        return None if header is None else header.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise BadRequest("X-User-ID is not UTF-8") from None


Anyone = Annotated[Caller, Security(caller)]
"""An identified caller, whose rights the route checks itself."""
Reader = Annotated[Caller, Security(caller, scopes=[Right.READ.value])]
Writer = Annotated[Caller, Security(caller, scopes=[Right.WRITE.value])]
Approver = Annotated[Caller, Security(caller, scopes=[Right.APPROVE.value])]
Configurer = Annotated[Caller, Security(caller, scopes=[Right.CONFIGURE.value])]
