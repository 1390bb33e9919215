"""Whether callers must authenticate, and what that means for the layers in front of the routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from broker_config.redis_url import without_secrets
from broker_config.settings import Settings
from sessions.client.per_process import get_client
from sessions.errors import BadRequest
from sessions.gateway.address import is_loopback
from sessions.gateway.api_keys import ApiKeys
from sessions.gateway.authenticator import Authenticator, Credentials, Everybody
from sessions.gateway.jwks import jwks_at
from sessions.gateway.last_use import LastUse
from sessions.gateway.local_only import LOOPBACK_NAMES
from sessions.gateway.request_limits import Limits, NoLimits, StoreLimits
from sessions.gateway.tokens import Tokens
from sessions.store.api_keys import ApiKeyStore

T = TypeVar("T")
_CREATE: Final = "`sessionfleet keys api create`"


@dataclass(frozen=True, slots=True)
class Access:
    """What `create_app` needs to know about authentication, and what to tell the person who starts the gateway."""

    authenticator: Authenticator
    limits: Limits
    hosts: Sequence[str]
    summary: str
    warnings: Sequence[str] = field(default=())


async def access_for(settings: Settings, host: str, *, insecure: bool = False) -> Access:
    """Decide for a gateway that is bound to this host. The decision is made once, at start.

    Args:
        insecure: serve without authentication even if other machines can reach it.

    Raises:
        BadRequest: it would admit everybody, and that was not asked for. BackendError: the store does not answer.
    """
    if settings.gateway_auth == "on":
        return _on(settings)
    if settings.gateway_auth == "auto" and (
        settings.gateway_jwks or await _with_keys(settings, lambda store: store.any())
    ):
        return _on(settings)
    if is_loopback(host):
        summary = f"off: any local user has full access. To turn it on, run {_CREATE} and restart"
        hosts = ("*",) if insecure else (*LOOPBACK_NAMES, host)
        return Access(Everybody(settings.tenant), NoLimits(), hosts, summary)
    if not insecure:
        raise BadRequest(_refusal(settings, host))
    warning = f"--insecure: everybody who can reach {host!r} may read and change every session of this fleet"
    return Access(Everybody(settings.tenant), NoLimits(), ("*",), "OFF", (warning,))


def _refusal(settings: Settings, host: str) -> str:
    reached = f"other machines can reach {host!r}, and"
    if settings.gateway_auth == "off":
        return (
            f"{reached} SESSIONFLEET_GATEWAY_AUTH is off: unset it and create a key with {_CREATE}, or admit "
            "everybody with --insecure"
        )
    return (
        f"{reached} there is no API key yet, and no SESSIONFLEET_GATEWAY_JWKS: create a key with {_CREATE}, or set "
        "SESSIONFLEET_GATEWAY_AUTH=on to start without a key and create one later, or admit everybody with "
        "--insecure"
    )


def _on(settings: Settings) -> Access:
    tokens, summary, warnings = None, f"on: API keys; {_CREATE} creates one", []
    if settings.gateway_jwks:
        tokens = Tokens(jwks_at(settings.gateway_jwks), settings)
        summary = (
            f"on: API keys ({_CREATE} creates one), and tokens verified with {without_secrets(settings.gateway_jwks)}"
        )
        if settings.gateway_jwt_audience is None:
            warnings.append(
                "SESSIONFLEET_GATEWAY_JWT_AUDIENCE is not set: tokens that this issuer made for other services are "
                "accepted too"
            )
        if settings.gateway_jwt_issuer is None:
            warnings.append("SESSIONFLEET_GATEWAY_JWT_ISSUER is not set: the `iss` of tokens is not checked")
    api_keys = ApiKeys(
        lambda key_id: _with_keys(settings, lambda store: store.find(key_id)),
        LastUse(lambda times_ms: _with_keys(settings, lambda store: store.note_used(times_ms))).note,
    )
    return Access(Credentials(api_keys, tokens), StoreLimits(settings), ("*",), summary, warnings)


async def _with_keys(settings: Settings, work: Callable[[ApiKeyStore], Awaitable[T]]) -> T:
    """Use the API keys in the store, through the client of this process."""
    client = get_client(settings)

    async def opened() -> T:
        await client.open()
        return await work(ApiKeyStore(client.stores.redis))

    return await client.portal.acall(opened())
