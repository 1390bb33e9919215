"""Assembles the gateway: `create_app(settings)` is an ASGI application that any server can serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from broker_config.settings import Settings, load_settings
from broker_config.version import package_version
from sessions.gateway import ag_ui, openai, openapi, problems, vercel
from sessions.gateway.access_log import AccessLog
from sessions.gateway.authenticator import Authenticator, Everybody
from sessions.gateway.body_limit import BodyLimit
from sessions.gateway.caller import Gateway
from sessions.gateway.gatekeeper import Gatekeeper
from sessions.gateway.head import Head
from sessions.gateway.local_only import OwnPages, TrustedHosts
from sessions.gateway.request_id import HEADER, RequestId
from sessions.gateway.request_limits import Limits, NoLimits
from sessions.gateway.routes import (
    agent,
    agents,
    approvals,
    branches,
    checkpoints,
    docs,
    files,
    inbox,
    knowledge,
    memory,
    operations,
    ready,
    schedules,
    search,
    shares,
    state,
    teams,
    transfer,
    turns,
    usage,
    users,
)
from sessions.gateway.routes import sessions as sessions_routes
from sessions.gateway.segments import DecodedPath
from sessions.gateway.single_headers import SingleHeaders
from sessions.gateway.strict_json import Json

_ABOUT: Final = """\
Conversations with agents that outlive any process. A message is durably accepted, its turn runs on any worker of the
fleet, and any client can follow the turn by its id. Errors are problem details (RFC 9457).
"""
_ROUTERS: Final = (
    agent.router,
    ready.router,
    sessions_routes.router,
    search.router,
    shares.router,
    transfer.router,
    turns.router,
    branches.router,
    schedules.router,
    approvals.router,
    inbox.router,
    state.router,
    checkpoints.router,
    memory.router,
    knowledge.router,
    files.router,
    operations.router,
    agents.router,
    teams.router,
    users.router,
    usage.router,
    docs.router,
)
_PROTOCOLS: Final = (*ag_ui.ROUTERS, *openai.ROUTERS, *vercel.ROUTERS)
_ENVELOPE: Final = 64 * 1024
"""Bytes that a body may have in addition to the message or document in it."""


def create_app(
    settings: Settings | None = None,
    *,
    authenticator: Authenticator | None = None,
    limits: Limits | None = None,
    hosts: Sequence[str] = ("*",),
) -> FastAPI:
    """The gateway as an application.

    Args:
        settings: the fleet; by default that of the environment.
        authenticator: identifies callers. By default everybody has full access, so bind to loopback only; pages of
            other sites are refused then, unless they are in SESSIONFLEET_GATEWAY_CORS.
        limits: the limits for each credential; none by default.
        hosts: the host names that it answers to. Without authentication, a page whose name was made to resolve to this
            machine (DNS rebinding) must not be served.
    """
    settings = settings or load_settings()
    app = FastAPI(
        title="Sessionfleet",
        version=package_version(),
        description=_ABOUT,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        redirect_slashes=False,  # a redirect would name the host that a proxy hides
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.gateway = Gateway(settings)
    for router in _ROUTERS:
        app.include_router(router)
    for router in _PROTOCOLS:  # their documents are the protocols' own
        app.include_router(router, include_in_schema=False)
    app.state.routes = [route for router in (*_ROUTERS, *_PROTOCOLS) for route in router.routes]
    app.state.error_forms = (openai.ERROR_FORM,)
    problems.install(app)
    openapi.install(app)
    _guard(app, settings, authenticator or Everybody(settings.tenant), limits or NoLimits(), hosts)
    return app


def _guard(
    app: FastAPI, settings: Settings, authenticator: Authenticator, limits: Limits, hosts: Sequence[str]
) -> None:
    """The layers in front of the routes; the last one added is the first to see a request."""
    app.add_middleware(Head)
    # JSON may write one byte as six.
    body_limit = 6 * settings.message_limit_bytes + _ENVELOPE
    app.add_middleware(
        BodyLimit,
        limit=body_limit,
        document_limit=max(body_limit, settings.document_limit_bytes + _ENVELOPE),
        file_limit=settings.file_limit_bytes,
    )
    app.add_middleware(DecodedPath)
    app.add_middleware(Gatekeeper, authenticator=authenticator, limits=limits)
    app.add_middleware(OwnPages, origins=settings.gateway_cors, basic_only=not isinstance(authenticator, Everybody))
    if settings.gateway_cors:
        # Before the gatekeeper: browsers send no credential with preflight requests, and must be able to read a 401.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.gateway_cors),
            allow_methods=["*"],
            allow_headers=["*"],
            allow_credentials=False,
            expose_headers=["Location", "Retry-After", "Preference-Applied", "X-Session-Id", HEADER],
        )
    app.add_middleware(TrustedHosts, hosts=hosts)
    app.add_middleware(SingleHeaders)
    app.add_middleware(AccessLog)
    app.add_middleware(RequestId)
