"""The keys that verify tokens (a JWK set), from a file or an https URL, kept up to date."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx
import jwt

from broker_config.telemetry import get_logger
from sessions.client.addresses import AddressPolicy, checked_addresses
from sessions.errors import AddressUnknown, BadRequest, KeysUnavailable, Unauthenticated

_log = get_logger(__name__)

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""Asymmetric ones only: with a shared secret, or none, anyone who can verify a token can make one."""
_KINDS: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "key_ops"})

LIFE: Final = 300.0
"""Seconds after which the keys of a URL are fetched again."""
STALE: Final = 3600.0
"""Seconds for which they are used while they cannot be fetched."""
PAUSE: Final = 60.0
"""Seconds between two fetches because of an unknown key id."""
_RETRY: Final = 5.0
# The operators of the gateway choose the issuer, and for many it is in a private network.
_ISSUERS: Final = AddressPolicy(allow_private=True)
_TIMEOUT: Final = 5.0
_LARGEST: Final = 512 * 1024


class Jwks(Protocol):
    """A source of keys."""

    async def keys(self, missing: str | None = None) -> list[Mapping[str, Any]]:
        """The keys; if one with this id is not among them, newer ones if possible.

        Raises:
            KeysUnavailable: there are none.
        """
        ...


def jwks_at(place: str) -> Jwks:
    """The source that SESSIONFLEET_GATEWAY_JWKS names.

    Raises:
        BadRequest: it is neither a file nor an https URL, or it is the address of a cloud's metadata server.
    """
    parts = urlsplit(place)
    if parts.scheme == "https" and parts.hostname and not parts.username:
        if _ISSUERS.refuses_url(place):
            raise BadRequest(
                "SESSIONFLEET_GATEWAY_JWKS is the address of a cloud's metadata server; set the issuer's URL"
            )
        return JwksUrl(place)
    if "://" in place:
        raise BadRequest(
            "SESSIONFLEET_GATEWAY_JWKS must be a file or an https URL without a password: anyone who can change the "
            "keys in transit can make tokens"
        )
    return JwksFile(Path(place))


class JwksFile:
    """A file, read again when it has changed.

    Raises:
        BadRequest: it cannot be read at start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: list[Mapping[str, Any]] = []
        self._seen: tuple[int, int, int] | None = None
        try:
            self._look()
        except (OSError, ValueError) as error:
            raise BadRequest(
                f"SESSIONFLEET_GATEWAY_JWKS: {str(path)!r} cannot be read as a JWK set: {error}"
            ) from error

    async def keys(self, missing: str | None = None) -> list[Mapping[str, Any]]:
        """The keys in the file now; while it cannot be read, as in the middle of a change, the previous ones."""
        del missing
        try:
            self._look()
        except (OSError, ValueError) as error:
            _log.warning("jwks_not_read", error=str(error))
        return self._keys

    def _look(self) -> None:
        stat = self._path.stat()
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._keys = usable(self._path.read_bytes())
            self._seen = seen


class JwksUrl:
    """An https URL, fetched when it is first needed, every five minutes, and for an unknown key id once a minute."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: list[Mapping[str, Any]] = []
        self._fetched: float | None = None
        self._tried = -PAUSE
        self._fetching: asyncio.Task[None] | None = None

    async def keys(self, missing: str | None = None) -> list[Mapping[str, Any]]:
        """The keys that were fetched last. Requests with a known key do not wait for a fetch that renews them.

        Raises:
            KeysUnavailable: none could be fetched, or not for an hour.
        """
        now = monotonic()
        age = None if self._fetched is None else now - self._fetched
        if age is None or age > STALE:
            if self._fetching is not None or now - self._tried > _RETRY:
                await asyncio.shield(self._fetch())
            if self._fetched is None or monotonic() - self._fetched > STALE:
                raise KeysUnavailable
        elif missing is not None:
            if self._fetching is not None or now - self._tried > PAUSE:
                await asyncio.shield(self._fetch())
        elif age > LIFE and now - self._tried > PAUSE:
            self._fetch()
        return self._keys

    def _fetch(self) -> asyncio.Task[None]:
        """The fetch in progress, or a new one."""
        if self._fetching is None:
            self._tried = monotonic()
            self._fetching = asyncio.get_running_loop().create_task(self._get())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _get(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await _check_address(self._url)
                self._keys = usable(await self._body())
            self._fetched = monotonic()
        except (httpx.HTTPError, ValueError, OSError, TimeoutError) as error:
            _log.warning("jwks_not_fetched", host=urlsplit(self._url).hostname, error=repr(error))

    async def _body(self) -> bytes:
        # No redirects: they would lead away from the place that the operators chose. The host's certificate is checked,
        # so a name that resolves differently between check and connection leads nowhere.
        async with (
            httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as response,
        ):
            if response.status_code != 200:
                raise ValueError(f"the response has the status {response.status_code}")
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _LARGEST:
                    raise ValueError(f"the response has more than {_LARGEST:,} bytes")
            return bytes(body)


async def _check_address(url: str) -> None:
    with suppress(AddressUnknown):  # a proxy of the environment may know a name that this machine does not
        await checked_addresses(url, _ISSUERS)


def usable(text: bytes) -> list[Mapping[str, Any]]:
    """The keys of a set that can verify our signatures.

    Raises:
        ValueError: this is not a JWK set, or none of its keys can.
    """
    try:
        whole = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    keys = whole.get("keys") if isinstance(whole, dict) else None
    if not isinstance(keys, list):
        raise ValueError('a JWK set is a JSON object, `{"keys": [...]}`')
    found: list[Mapping[str, Any]] = [
        # If the set contains an issuer's private keys, the part that makes signatures must not be kept here.
        {name: value for name, value in key.items() if name not in _PRIVATE}
        for key in keys
        if isinstance(key, dict) and _verifies(key)
    ]
    if not found:
        raise ValueError("none of its keys is an RSA, EC or Ed25519 key for signatures")
    return found


def _verifies(key: Mapping[str, Any]) -> bool:
    if key.get("kty") not in _KINDS.values() or key.get("use", "sig") != "sig":
        return False
    uses = key.get("key_ops", ["verify"])
    fit = isinstance(uses, list) and ("verify" in uses or ("d" in key and "sign" in uses))
    return fit and key.get("alg", "RS256") in ALGORITHMS


def chosen(keys: list[Mapping[str, Any]], kid: str | None, algorithm: str) -> jwt.PyJWK | None:
    """The key that a token says it was signed with; None if it is unknown. Without an id, the only one that fits.

    Raises:
        Unauthenticated: the key is not one for this algorithm.
    """
    kind = _KINDS.get(algorithm[:2])
    if kid is None:
        fitting = [key for key in keys if key["kty"] == kind and key.get("alg", algorithm) == algorithm]
        found = fitting[0] if len(fitting) == 1 else None
    else:
        found = next((key for key in keys if key.get("kid") == kid), None)
    if found is None:
        return None
    if found["kty"] != kind or found.get("alg", algorithm) != algorithm:
        raise Unauthenticated("this token's algorithm does not match its key")
    try:
        return jwt.PyJWK(dict(found), algorithm)
    except jwt.PyJWTError:
        raise Unauthenticated("this token's key cannot be used") from None
