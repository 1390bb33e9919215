"""Where the keys of tokens come from: a file that may change, an https server that may be down or lie."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from sessions.errors import BadRequest, KeysUnavailable
from sessions.gateway import jwks
from sessions.gateway.jwks import JwksFile, JwksUrl, chosen, jwks_at, usable
from tests.support.certificates import self_signed
from tests.support.tokens import jwk_set, private_key, public_jwk, token
from tests.support.waiting import await_until
from tests.support.web import Answer, Web, web_server

FIRST = jwk_set(public_jwk("ES256", "k1"))
SECOND = jwk_set(public_jwk("ES256", "k1"), public_jwk("ES256", "k2", 1))


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """An https server that this process trusts."""
    pem = self_signed(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with web_server(served) as web:
        web.answers["/jwks"] = Answer(FIRST)
        yield web


@pytest.fixture
def source(web: Web) -> JwksUrl:
    return JwksUrl(web.url("/jwks", scheme="https"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by which keys age; a test moves it."""
    now = [5000.0]
    monkeypatch.setattr("sessions.gateway.jwks.monotonic", lambda: now[0])
    return now


def ids(keys: object) -> list[str]:
    return [key["kid"] for key in keys]  # type: ignore[attr-defined]


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_private_keys_in_a_set_are_used_as_public_ones(algorithm: str) -> None:
    """For operators who configured the issuer's own file: tokens are verified with it, and no signing key is kept."""
    kinds = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}
    whole = json.loads(kinds[algorithm[:2]].to_jwk(private_key(algorithm)))  # type: ignore[attr-defined]
    keys = usable(jwk_set({**whole, "kid": "k1"}))
    assert "d" in whole
    assert not {"d", "p", "q", "dp", "dq", "qi"} & set(keys[0])
    assert (
        jwt.decode(token(algorithm=algorithm), chosen(keys, "k1", algorithm), algorithms=[algorithm])["sub"] == "alice"
    )


@pytest.mark.parametrize("text", [b'{"keys": ' + b"[" * 100_000, b"[]", jwk_set({"kty": "RSA", "key_ops": 5})])
def test_what_is_no_set_is_refused(text: bytes) -> None:
    """By one kind of error, which leaves the keys before in force."""
    with pytest.raises(ValueError, match=r"nested|JWK set|none of its keys"):
        usable(text)


@pytest.mark.parametrize(
    "place",
    ["http://id.example/jwks", "https://user:secret@id.example/jwks", "https:///jwks", "ftp://id.example/jwks",
     "file:///etc/jwks", "data://x"],
)  # fmt: skip
def test_keys_come_by_a_way_that_nobody_can_change(place: str) -> None:
    """With plain http anyone in between could make tokens; a password has no place in what is printed."""
    with pytest.raises(BadRequest) as refused:
        jwks_at(place)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal"])
def test_a_metadata_server_is_no_issuer(host: str) -> None:
    """Configuring this address is a mistake that must be reported at start."""
    with pytest.raises(BadRequest, match="metadata"):
        jwks_at(f"https://{host}/keys")


async def test_an_issuer_whose_name_leads_to_a_metadata_server_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The name is looked up before the request; private addresses are fine, for issuers are often there."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("169.254.169.254", 443))])
    with pytest.raises(KeysUnavailable):
        await JwksUrl("https://id.example/keys").keys()
    assert "AddressRefused" in caplog.text


def test_a_place_is_a_file_or_an_https_url(tmp_path: Path) -> None:
    """A file is read at start, so that an unusable gateway does not start."""
    path = tmp_path / "jwks.json"
    with pytest.raises(BadRequest, match="cannot be read"):
        jwks_at(str(path))
    path.write_text("{}")
    with pytest.raises(BadRequest, match="JWK set"):
        jwks_at(str(path))
    path.write_bytes(FIRST)
    assert isinstance(jwks_at(str(path)), JwksFile)
    assert isinstance(jwks_at("https://id.example/jwks"), JwksUrl)


async def test_a_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    """By the next token; and while it is being written, or has gone, the keys before hold."""
    path = tmp_path / "jwks.json"
    path.write_bytes(FIRST)
    source = JwksFile(path)
    assert ids(await source.keys()) == ["k1"]
    path.write_bytes(SECOND[:100])
    assert ids(await source.keys()) == ["k1"]
    path.unlink()
    assert ids(await source.keys()) == ["k1"]
    beside = tmp_path / "new.json"
    beside.write_bytes(SECOND)
    os.utime(beside, (1, 1))  # an older time than the one before: what counts is that it is another
    beside.rename(path)
    assert ids(await source.keys()) == ["k1", "k2"]


async def test_a_url_is_fetched_once_for_all(source: JwksUrl, web: Web, clock: list[float]) -> None:
    """Simultaneous requests share one fetch, which is kept for five minutes."""
    assert [ids(keys) for keys in await asyncio.gather(*(source.keys() for _ in range(20)))] == [["k1"]] * 20
    clock[0] += jwks.LIFE - 1
    await source.keys()
    assert len(web.asked) == 1


async def test_old_keys_are_renewed_without_anybody_waiting(source: JwksUrl, web: Web, clock: list[float]) -> None:
    """The request that finds them old gets them, and the next ones the new."""
    await source.keys()
    web.answers["/jwks"] = Answer(SECOND)
    clock[0] += jwks.LIFE + 1
    assert ids(await source.keys()) == ["k1"]

    async def renewed() -> bool:
        return ids(await source.keys()) == ["k1", "k2"]

    await await_until(renewed, description="the keys were renewed")


async def test_an_unknown_key_is_fetched_at_most_once_a_minute(source: JwksUrl, web: Web, clock: list[float]) -> None:
    """An issuer's new key is there with its first token; a flood of made-up ids costs one fetch a minute."""
    await source.keys()
    web.answers["/jwks"] = Answer(SECOND)
    for _ in range(5):
        assert ids(await source.keys(missing="k2")) == ["k1"], "fetched a moment ago"
    clock[0] += jwks.PAUSE + 1
    found = await asyncio.gather(*(source.keys(missing="k2") for _ in range(10)))
    assert [ids(keys) for keys in found] == [["k1", "k2"]] * 10
    for n in range(10):
        await source.keys(missing=f"made-up-{n}")
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [Answer(b"{}"), Answer(b"not json"), Answer(FIRST, status=500),
     Answer(b"", status=302, headers={"Location": "/other"}), Answer(b" " * 600_000 + FIRST)],
    ids=["no keys", "no json", "500", "elsewhere", "too large"],
)  # fmt: skip
async def test_an_answer_that_is_none_leaves_the_keys_as_they_were(
    source: JwksUrl, web: Web, clock: list[float], answer: Answer
) -> None:
    """For an hour; without any, callers cannot be distinguished: 503 and not 401, and not open. No redirect counts."""
    web.answers["/other"] = Answer(SECOND)
    good, web.answers["/jwks"] = web.answers["/jwks"], answer
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await source.keys()
    assert len(web.asked) == 1, "and the server is not asked for each request"
    web.answers["/jwks"] = good
    clock[0] += 6
    assert ids(await source.keys()) == ["k1"]
    web.answers["/jwks"] = answer
    clock[0] += jwks.STALE - 1
    await source.keys()
    await await_until(_idle(source), description="the fetch ended")
    assert ids(await source.keys()) == ["k1"]
    clock[0] += 61
    with pytest.raises(KeysUnavailable):
        await source.keys()


async def test_the_servers_certificate_is_checked(
    source: JwksUrl, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    """Another server in its place is not trusted."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(KeysUnavailable):
        await source.keys()


def _idle(source: JwksUrl):  # type: ignore[no-untyped-def]
    async def look() -> bool:
        return source._fetching is None

    return look
