"""An issuer of tokens: its keys, the JWK set with them, and valid and invalid tokens."""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm


def private_key(algorithm: str, number: int = 0) -> Any:
    """A key for an algorithm, made once; other numbers are other keys."""
    return _made(algorithm, number)


@lru_cache
def _made(algorithm: str, number: int) -> Any:
    del number
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        return ec.generate_private_key(
            {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
        )
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(algorithm: str, kid: str | None, number: int = 0, **more: Any) -> dict[str, Any]:
    """The public part of a key, as it stands in a JWK set."""
    public = private_key(algorithm, number).public_key()
    kinds = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}
    jwk: dict[str, Any] = json.loads(kinds[algorithm[:2]].to_jwk(public))  # type: ignore[attr-defined]
    jwk.pop("key_ops", None)
    return {**jwk, **({} if kid is None else {"kid": kid}), **more}


def jwk_set(*keys: dict[str, Any]) -> bytes:
    """A JWK set of these keys."""
    return json.dumps({"keys": keys}).encode()


def token(
    claims: dict[str, Any] | None = None, *, algorithm: str = "ES256", kid: str | None = "k1", number: int = 0
) -> str:
    """A token that is good for a minute, unless the claims say otherwise; a claim that is None is left out."""
    whole = {"sub": "alice", "exp": int(time.time()) + 60, **(claims or {})}
    given = {name: value for name, value in whole.items() if value is not None}
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(given, private_key(algorithm, number), algorithm=algorithm, headers=headers)
