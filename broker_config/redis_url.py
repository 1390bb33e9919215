"""Redis URLs: validated when the settings are read, so that store and broker understand the same ones.

redis-py and kombu read URLs differently: kombu passes unknown options on as arguments (a TypeError), treats ';' as a
list of servers, and does not know `unix://`. So a URL is parsed here, by redis-py's rules, and both get the parts.

No error of this module quotes a part of the URL: a password that is not percent-encoded can end up in any of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import ParseResult, parse_qsl, quote, urlencode, urlparse

from redis.connection import URL_QUERY_ARGUMENT_PARSERS, parse_url

from broker_config.url_parts import host_part, userinfo_part

_SCHEMES: Final = ("redis", "rediss", "unix")
_SOCKET: Final = "redis+socket://"  # kombu's name for unix://
_ENCODE: Final = (
    "percent-encode special characters in its user name and password, such as / ? # @ [ ] and spaces; in Python: "
    "urllib.parse.quote(password, safe='')"
)
_UNREADABLE: Final = re.compile(r"[\s\x00-\x1f\x7f]")
_DATABASE: Final = re.compile(r"/?\d*\Z")

_CONNECTION_OPTIONS: Final = frozenset(
    {"socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval", "client_name"}
)
_TLS_OPTIONS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password",
     "ssl_check_hostname", "ssl_ciphers"}
)  # fmt: skip
_OPTIONS: Final = _CONNECTION_OPTIONS | _TLS_OPTIONS | {"db", "username", "password", "max_connections"}
_REFUSED: Final = frozenset({*URL_QUERY_ARGUMENT_PARSERS, "decode_responses", "encoding", "encoding_errors"}) - _OPTIONS
_CHECKS_OF_CERTIFICATES: Final = ("required", "optional", "none")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The parts of a Redis URL.

    Attributes:
        path: of the unix socket; empty for `redis://` and `rediss://`.
        options: further arguments of the connection, without those for TLS.
        tls: arguments of the connection for TLS.
    """

    scheme: str
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """Parse a URL.

        Raises:
            ValueError: it is not valid; the message says why, and quotes no part of the URL's password.
        """
        url = url.strip()
        if url.startswith(_SOCKET):
            url = "unix://" + url.removeprefix(_SOCKET).replace("virtual_host=", "db=")
        parts = _split(url)
        _check_options(parts)
        try:
            known: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        except ValueError as error:
            # From redis-py, about the value of an option, which it does not quote; or from urllib, about the port.
            raise ValueError(
                str(error) if "Invalid value for" in str(error) else f"it cannot be parsed: {_ENCODE}"
            ) from None
        known.pop("connection_class", None)
        return cls(
            scheme=parts.scheme,
            host=known.get("host", cls.__dataclass_fields__["host"].default),
            port=known.get("port", cls.__dataclass_fields__["port"].default),
            path=known.get("path", ""),
            db=known.get("db", 0),
            username=known.get("username"),
            password=known.get("password"),
            options={name: known[name] for name in sorted(_CONNECTION_OPTIONS & known.keys())},
            tls={name: known[name] for name in sorted(_TLS_OPTIONS & known.keys())},
        )

    def for_kombu(self, *, password: bool) -> str:
        """The URL in kombu's and Flower's spelling, with or without the password."""
        who = userinfo_part(self.username, self.password, show_password=password)
        if self.path:
            return f"{_SOCKET}{who}{quote(self.path)}?{urlencode({'virtual_host': self.db})}"
        return f"{self.scheme}://{who}{host_part(self.host, self.port)}/{self.db}"


def check_readable(url: str) -> ParseResult:
    """The parts of a URL of any scheme.

    Raises:
        ValueError: it cannot be parsed; the message quotes no part of it.
    """
    if _UNREADABLE.search(url):
        raise ValueError(f"it contains a space or a control character: {_ENCODE}")
    try:
        parts = urlparse(url)
        readable = parts.port is None or parts.port > 0
    except ValueError:  # its message may quote a part of the password, where a port or host was expected
        readable = False
    if not readable:
        raise ValueError(f"it cannot be parsed. The port is a number from 1 to 65535; {_ENCODE}")
    return parts


def _split(url: str) -> ParseResult:
    parts = check_readable(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(
            "an address begins with redis://, rediss://, unix:// or sentinel://, such as redis://localhost:6379/0"
        )
    if parts.fragment or "#" in url or "@" in parts.query or "@" in parts.path:
        raise ValueError(f"it contains a '#' or a second '@': {_ENCODE}")
    if parts.scheme == "unix":
        if not parts.path or (parts.netloc and not parts.netloc.endswith("@")):
            raise ValueError(f"a socket's path begins with '/', as in unix:///run/redis.sock; {_ENCODE}")
    elif not _DATABASE.match(parts.path):
        raise ValueError(f"the number of a database must follow the host, as in redis://localhost:6379/0; {_ENCODE}")
    return parts


def _check_options(parts: ParseResult) -> None:
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(given.keys() - _OPTIONS):
        # After an '&' that is not encoded, what looks like an option is a part of the password.
        name = f"the option {unknown[0]!r}" if unknown[0] in _REFUSED else "one of its options"
        raise ValueError(
            f"{name} is not supported; supported options are {', '.join(sorted(_OPTIONS))}. Also, {_ENCODE}"
        )
    if tls := sorted(given.keys() & _TLS_OPTIONS if parts.scheme != "rediss" else ()):
        raise ValueError(f"the option {tls[0]!r} needs a URL with rediss://")
    if given.get("ssl_cert_reqs", "none") not in _CHECKS_OF_CERTIFICATES:
        raise ValueError(f"the option 'ssl_cert_reqs' must be one of {', '.join(_CHECKS_OF_CERTIFICATES)}")
    if given.get("db", "0").startswith("-"):
        raise ValueError("the option 'db' is the number of a database, as in db=3")


def without_secrets(url: str) -> str:
    """Any URL, for display: without user, password and the values of its options."""
    try:
        parts = urlparse(url)
    except ValueError:
        return "**"
    _, at, host = parts.netloc.rpartition("@")
    if "@" in parts.path + parts.query + parts.fragment:  # the password ends there, or another URL's
        return f"{parts.scheme}://**"
    hidden = parts._replace(netloc=f"**@{host}" if at else host, query="**" if parts.query else "", fragment="")
    return hidden.geturl()
