"""Bearer tokens (JWT) as the gateway checks them: signature, time, issuer and audience, and the user in the claims."""

from __future__ import annotations

from typing import Any, Final

import jwt

from broker_config.settings import Settings
from sessions.client.arguments.values import short_string
from sessions.errors import BadRequest, Unauthenticated
from sessions.gateway.jwks import ALGORITHMS, Jwks, chosen
from sessions.gateway.principal import Principal, Right
from sessions.store.keys import valid_tenant

LEEWAY: Final = 10.0
"""Seconds by which clocks may differ."""
_SCOPE: Final = "sessionfleet:"
_WITHOUT_SCOPE: Final = frozenset({Right.READ, Right.WRITE})
_SAID: Final = {
    jwt.ExpiredSignatureError: "this token has expired (`exp`): get a new one",
    jwt.ImmatureSignatureError: "this token is not valid yet (`nbf`, `iat`)",
    jwt.InvalidIssuerError: "this token is from another issuer (`iss`)",
    jwt.InvalidAudienceError: "this token is for another audience (`aud`)",
    jwt.MissingRequiredClaimError: "this token lacks one of the claims `exp` and `sub`, or `iss` or `aud`",
}


class Tokens:
    """Identifies the owner of a token."""

    def __init__(self, jwks: Jwks, settings: Settings) -> None:
        self._jwks = jwks
        self._issuer = settings.gateway_jwt_issuer
        self._audience = settings.gateway_jwt_audience
        self._tenant_claim = settings.gateway_jwt_tenant_claim
        self._tenant = settings.tenant

    async def principal(self, token: str) -> Principal:
        """The owner of a token.

        Raises:
            Unauthenticated: it is not a valid token, or not for us. KeysUnavailable: it cannot be verified now.
        """
        claims = self._verified(token, await self._key(token))
        user, tenant = _user(claims), self._tenant_of(claims)
        return Principal(tenant, user=user, rights=_rights(claims), id=f"token:{user}")

    async def _key(self, token: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError):
            raise Unauthenticated("this is neither an API key nor a token (JWT)") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise Unauthenticated(f"tokens must be signed with one of {', '.join(ALGORITHMS)} here")
        if not (kid is None or isinstance(kid, str)):
            raise Unauthenticated("this token's key id (`kid`) is not a text")
        key = chosen(await self._jwks.keys(), kid, algorithm)
        if key is None:
            key = chosen(await self._jwks.keys(missing=kid or ""), kid, algorithm)
        if key is None:
            raise Unauthenticated("the key that this token was signed with (`kid`) is unknown here")
        return key

    def _verified(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        required = ["exp", "sub", *(["iss"] if self._issuer else []), *(["aud"] if self._audience else [])]
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={
                    "require": required,
                    "verify_aud": self._audience is not None,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.PyJWTError as error:
            reason = next((text for kind, text in _SAID.items() if isinstance(error, kind)), None)
            raise Unauthenticated(reason or "this token's signature or format is not valid") from None
        except (TypeError, ValueError, OverflowError, RecursionError):  # of claims that no issuer makes
            raise Unauthenticated("this token's claims cannot be parsed") from None

    def _tenant_of(self, claims: dict[str, Any]) -> str:
        try:
            return valid_tenant(claims.get(self._tenant_claim, self._tenant))
        except BadRequest as error:
            raise Unauthenticated(f"this token's claim {self._tenant_claim!r} cannot name a tenant: {error}") from None


def _user(claims: dict[str, Any]) -> str:
    try:
        user = short_string("sub", claims["sub"])
    except BadRequest:
        raise Unauthenticated("this token's `sub` is not a text of 1 to 256 bytes") from None
    if user.startswith("key:"):
        # An issuer whose users choose their own names must not be able to give one an API key's name.
        raise Unauthenticated("this token's `sub` begins with `key:`, which is reserved for users of API keys")
    return user


def _rights(claims: dict[str, Any]) -> frozenset[Right]:
    """What the scopes allow. `read` and `write` may be plain; the others mean too much elsewhere."""
    if "scope" not in claims:
        return _WITHOUT_SCOPE
    scope = claims["scope"]
    words = scope.split() if isinstance(scope, str) else scope if isinstance(scope, list) else []
    bare = {right.value for right in _WITHOUT_SCOPE}
    names = {str(word).removeprefix(_SCOPE) for word in words if str(word).startswith(_SCOPE) or word in bare}
    return frozenset(right for right in Right if right.value in names)
