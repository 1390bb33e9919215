"""Bearer tokens: which are valid, whom they name, what they allow, and how one might cheat."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from broker_config.settings import Settings
from sessions.errors import Unauthenticated
from sessions.gateway.jwks import ALGORITHMS, usable
from sessions.gateway.principal import Principal, Right
from sessions.gateway.tokens import LEEWAY, Tokens
from tests.support.tokens import jwk_set, private_key, public_jwk, token


class Keys:
    """Keys that never change; notes for which ids fresher ones were wanted."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.set = usable(jwk_set(*keys))
        self.missing: list[str] = []

    async def keys(self, missing: str | None = None) -> list[Mapping[str, Any]]:
        if missing is not None:
            self.missing.append(missing)
        return self.set


def tokens(*keys: dict[str, Any], **settings: Any) -> Tokens:
    return Tokens(Keys(*(keys or (public_jwk("ES256", "k1"),))), Settings(**settings))


async def refused(text: str, *keys: dict[str, Any], **settings: Any) -> str:
    """The error for the sender of this token."""
    with pytest.raises(Unauthenticated) as error:
        await tokens(*keys, **settings).principal(text)
    return str(error.value)


def encoded(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_tokens_of_all_asymmetric_algorithms_are_taken(algorithm: str) -> None:
    """With the key's id, or without where only one key fits; with the key's algorithm said or not."""
    for kid, more in (("k1", {}), (None, {}), ("k1", {"alg": algorithm, "use": "sig"})):
        principal = await tokens(public_jwk(algorithm, "k1", **more)).principal(token(algorithm=algorithm, kid=kid))
        assert principal.user == "alice"


async def test_a_token_names_user_and_tenant() -> None:
    """`sub` and a claim that the settings name; never another user, and no right to configure by itself."""
    principal = await tokens(tenant="home").principal(token())
    assert principal == Principal("home", user="alice", rights=frozenset({Right.READ, Right.WRITE}), id="token:alice")
    assert (await tokens().principal(token({"tenant": "acme"}))).tenant == "acme"
    assert (
        await tokens(gateway_jwt_tenant_claim="org").principal(token({"org": "acme", "tenant": "x"}))
    ).tenant == "acme"


@pytest.mark.parametrize("tenant", ["", "a b", "../x", "a" * 65, 7, ["acme"], {"a": 1}, True, "acme\n", "~user"])
async def test_a_tenant_that_is_no_name_is_refused(tenant: object) -> None:
    """It is a part of keys in the store; the error says why it cannot be one."""
    said = await refused(token({"tenant": tenant}))
    assert re.search(r"tenant.*(not allowed|it is empty|65 characters|of the type|as folders)", said)


@pytest.mark.parametrize("tenant", ["https://acme.example/org", "google-oauth2|117", "Bücher+Söhne"])
async def test_a_tenant_may_have_the_name_that_its_provider_gives(tenant: str) -> None:
    """The name is percent-encoded in keys."""
    assert (await tokens().principal(token({"tenant": tenant}))).tenant == tenant


@pytest.mark.parametrize(
    ("scope", "rights"),
    [
        ("sessionfleet:read", {Right.READ}),
        ("read write", {Right.READ, Right.WRITE}),
        ("openid profile sessionfleet:write", {Right.WRITE}),
        ("sessionfleet:configure sessionfleet:admin", {Right.CONFIGURE, Right.ADMIN}),
        ("configure admin", set()),
        ("openid", set()),
        ("", set()),
        (["read", "sessionfleet:configure", 7], {Right.READ, Right.CONFIGURE}),
        (None, {Right.READ, Right.WRITE}),
        (7, set()),
        ("READ sessionfleet: sessionfleet:sessionfleet:read", set()),
    ],
)
async def test_scopes_are_rights(scope: object, rights: set[Right]) -> None:
    """A scope that means something elsewhere grants nothing here: plain `admin` is not one of our rights."""
    assert (await tokens().principal(token({"scope": scope}))).rights == rights


@pytest.mark.parametrize("sub", [None, "", "x" * 257, 7, ["alice"], "key:abc", "\ud800"], ids=range(7))
async def test_a_token_without_a_user_of_its_own_is_refused(sub: object) -> None:
    """Nor may an issuer's user have the name that belongs to an API key's user."""
    await refused(token({"sub": sub}))


async def test_time_counts_with_a_small_leeway() -> None:
    """Clocks differ by seconds, not by minutes; and a token that never ends is none."""
    now = time.time()
    assert (await tokens().principal(token({"exp": int(now - LEEWAY + 5)}))).user == "alice"
    assert (await tokens().principal(token({"nbf": int(now + LEEWAY - 5)}))).user == "alice"
    assert "has expired" in await refused(token({"exp": int(now - LEEWAY - 5)}))
    assert "not valid yet" in await refused(token({"nbf": int(now + LEEWAY + 60)}))
    assert "not valid yet" in await refused(token({"iat": int(now + LEEWAY + 60)}))
    assert "exp" in await refused(token({"exp": None}))


@pytest.mark.parametrize("exp", ["soon", "inf", [], {}, True, float("nan"), float("inf"), -1], ids=range(8))
async def test_times_that_are_none_are_refused(exp: object) -> None:
    """Whatever a signed claim holds, it is refused and nothing breaks."""
    await refused(token({"exp": exp}))


async def test_issuer_and_audience_count_where_they_are_set() -> None:
    """If they are set, the token must have both."""
    settings = {"gateway_jwt_issuer": "https://id", "gateway_jwt_audience": "sf"}
    good = {"iss": "https://id", "aud": ["other", "sf"]}
    assert (await tokens(**settings).principal(token(good))).user == "alice"
    for bad in ({"iss": "https://id/"}, {"aud": "sf2"}, {"iss": None}, {"aud": None}, {"aud": []}):
        await refused(token({**good, **bad}), **settings)
    assert (await tokens().principal(token(good))).user == "alice"


# --- cheating -----------------------------------------------------------------------------------------------


async def test_a_token_without_a_signature_is_refused() -> None:
    """`alg: none` is refused in every spelling."""
    claims = {"sub": "alice", "exp": int(time.time()) + 60}
    for name in ("none", "None", "NONE", "nOnE", "", None):
        header = {"alg": name, "kid": "k1", "typ": "JWT"}
        await refused(f"{encoded(header)}.{encoded(claims)}.")
    header, payload, _ = token().split(".")
    await refused(f"{header}.{payload}.")


async def test_the_public_key_is_no_shared_secret() -> None:
    """HS256 keyed with the public key's text: the classic confusion."""
    for algorithm in ("RS256", "ES256"):
        public = private_key(algorithm).public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        header = encoded({"alg": "HS256", "kid": "k1"})
        body = f"{header}.{encoded({'sub': 'alice', 'exp': int(time.time()) + 60})}"
        mac = hmac.new(pem, body.encode(), hashlib.sha256).digest()
        assert "signed with one of" in await refused(f"{body}.{encoded(mac)}", public_jwk(algorithm, "k1"))


async def test_a_shared_secret_in_the_set_is_not_used() -> None:
    """Nor an encryption key, nor one whose algorithm is not one of ours."""
    secret = {"kty": "oct", "kid": "k1", "k": encoded(b"x" * 32), "alg": "HS256"}
    other = public_jwk("ES256", "k2")
    text = jwt.encode({"sub": "alice", "exp": int(time.time()) + 60}, b"x" * 32, "HS256", headers={"kid": "k1"})
    await refused(text, secret, other)
    for more in ({"use": "enc"}, {"alg": "ECDH-ES"}, {"key_ops": ["sign"]}):
        await refused(token(), public_jwk("ES256", "k1", **more), other)
    for unusable in ([secret], [], [7], [{"kty": "RSA", "use": "enc"}]):
        with pytest.raises(ValueError, match="none of its keys"):
            usable(json.dumps({"keys": unusable}).encode())


async def test_a_key_is_good_for_its_algorithm_alone() -> None:
    """A token may not choose another one than its key says, nor one of another kind of key."""
    rs = public_jwk("RS256", "k1", alg="RS256")
    text = jwt.encode({"sub": "a", "exp": int(time.time()) + 60}, private_key("RS256"), "PS256", headers={"kid": "k1"})
    assert "does not match its key" in await refused(text, rs)
    assert "does not match its key" in await refused(token(), rs)
    assert (await tokens(public_jwk("RS256", "k1")).principal(text)).user == "a", "a key that names none is for both"
    assert "ES384" in ALGORITHMS
    await refused(token(algorithm="ES384"), public_jwk("ES256", "k1"))


async def test_another_issuers_key_with_the_same_id_opens_nothing() -> None:
    """The signature decides; the id only says where to look."""
    await refused(token(number=1))
    await refused(token(number=1), public_jwk("ES256", "k2"), public_jwk("ES256", "k1"))


async def test_keys_in_the_token_itself_are_not_looked_at() -> None:
    """`jwk`, `jku` and `x5u` would let a token bring its own key, or have us call an address of its choice."""
    headers = {
        "kid": "k1",
        "jwk": public_jwk("ES256", "k1", 1),
        "jku": "https://evil.example",
        "x5u": "https://evil.example",
    }
    claims = {"sub": "alice", "exp": int(time.time()) + 60}
    await refused(jwt.encode(claims, private_key("ES256", 1), "ES256", headers=headers))


async def test_without_an_id_two_keys_that_fit_are_one_too_many() -> None:
    """Which one is meant is not guessed; and a missing one is fetched once more."""
    keys = Keys(public_jwk("ES256", "k1"), public_jwk("ES256", "k2", 1))
    with pytest.raises(Unauthenticated):
        await Tokens(keys, Settings()).principal(token(kid=None))
    with pytest.raises(Unauthenticated):
        await Tokens(keys, Settings()).principal(token(kid="k9"))
    assert keys.missing == ["", "k9"]


async def test_short_keys_are_refused() -> None:
    """A modulus of 1,024 bits can be factored with enough effort."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    jwk = {**json.loads(RSAAlgorithm.to_jwk(weak.public_key())), "kid": "weak"}
    jwk.pop("key_ops", None)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        text = jwt.encode({"sub": "a", "exp": int(time.time()) + 60}, weak, "RS256", headers={"kid": "weak"})
    await refused(text, jwk)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b.c", "....", "eyJ.eyJ.eyJ", encoded([]) + "." + encoded({}) + ".x",
     encoded({"alg": "ES256", "kid": 7}) + "." + encoded({}) + ".x",
     encoded({"alg": "ES256", "kid": "k1", "crit": ["x"]}) + ".e30.x",
     encoded({"alg": ["ES256"]}) + ".e30.x", encoded({"alg": "ES256", "kid": "k1"}) + ".e30." + "A" * 8000,
     encoded({"alg": "ES256", "kid": "k1", "b64": False}) + ".e30.x", encoded(b"[" * 3000) + ".e30.x"],
    ids=range(13),
)  # fmt: skip
async def test_what_is_no_token_is_refused(text: str) -> None:
    """Each gets 401, and no error of a library reaches the caller."""
    await refused(text)


async def test_a_payload_that_is_no_object_is_refused() -> None:
    """It is refused whether or not it is signed."""
    for payload in (b"[]", b"7", b"null", b'"x"', b"\xff", b"[" * 2000):
        await refused(jwt.api_jws.encode(payload, private_key("ES256"), "ES256", headers={"kid": "k1"}))


async def test_no_refusal_repeats_the_token() -> None:
    """The token may belong to someone else and have been sent to the wrong place."""
    text = token({"exp": 1, "secret": "hidden"})
    said = await refused(text)
    assert not any(part in said for part in text.split("."))
