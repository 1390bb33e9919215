"""URLs of a Redis behind Sentinel: which sentinels to ask, and for the primary of which name.

    sentinel://sentinel-1:26379,sentinel-2:26379,sentinel-3:26379/0?master_name=mymaster
    redis+sentinel://user:password@sentinel-1,sentinel-2,sentinel-3/mymaster/0
    rediss+sentinel://...                              the same, with TLS to the servers and to the sentinels

There is no standard for these URLs; the spellings of redis-py, Celery and kombu are understood. No error of this
module quotes a part of the URL, which may contain a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from broker_config.url_parts import host_part, userinfo_part

_SCHEMES: Final = ("sentinel", "redis+sentinel", "rediss+sentinel")
_PORT: Final = 26379
_EXAMPLE: Final = "sentinel://sentinel-1:26379,sentinel-2:26379/0?master_name=mymaster"
# kombu takes several URLs instead of several hosts; user and password are those of the first one.
_NEXT_URL: Final = re.compile(r";\s*[a-z+]+://(?:[^@/;?]*@)?")
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]/?#@]+)(?::(?P<port>\d{1,5}))?\Z")
_TLS_OPTIONS: Final = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password")
_OPTIONS: Final = ("master_name", "db", "username", "password", "sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """The parts of a Sentinel URL.

    Attributes:
        sentinels: host and port of each; the first one that answers is asked.
        master_name: the sentinels' name for the primary.
        tls: arguments of the connection for TLS; None without TLS.
    """

    sentinels: tuple[tuple[str, int], ...]
    master_name: str
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Mapping[str, str] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> SentinelUrl:
        """Parse a URL.

        Raises:
            ValueError: it is not valid; the message says why, and quotes no part of the URL's password.
        """
        scheme, _, rest = url.strip().partition("://")
        where, _, query = _NEXT_URL.sub(",", rest).partition("?")
        who, _, where = where.rpartition("@")
        hosts, _, path = where.partition("/")
        options = _options(query, tls=scheme.startswith("rediss"))
        name, db = _path(path)
        username, _, password = who.partition(":")
        given = {"master_name": name, "db": db, "username": unquote(username), "password": unquote(password)} | options
        if not given["master_name"]:
            raise ValueError(f"it does not name the primary: add the name as ?master_name=, as in {_EXAMPLE}")
        tls = {option: value for option, value in options.items() if option in _TLS_OPTIONS}
        return cls(
            sentinels=tuple(_host(part) for part in hosts.split(",")),
            master_name=given["master_name"],
            db=_number(given["db"]),
            username=given["username"] or None,
            password=given["password"] or None,
            sentinel_username=given.get("sentinel_username") or None,
            sentinel_password=given.get("sentinel_password") or None,
            tls={"ssl_cert_reqs": "required", **tls} if scheme.startswith("rediss") else None,
        )

    @property
    def server_options(self) -> dict[str, Any]:
        """Arguments of a connection to the Redis servers."""
        return {"db": self.db, "username": self.username, "password": self.password, **(self.tls or {})}

    def sentinel_options(self, **others: Any) -> dict[str, Any]:
        """Arguments of a connection to the sentinels, which have their own users."""
        who = {"username": self.sentinel_username, "password": self.sentinel_password}
        return {**who, **(self.tls or {}), **({"ssl": True} if self.tls is not None else {}), **others}

    def for_kombu(self, *, password: bool) -> str:
        """The URLs in kombu's and Flower's spelling, with or without the password."""
        who = userinfo_part(self.username, self.password, show_password=password)
        return ";".join(f"sentinel://{who}{host_part(host, port)}/{self.db}" for host, port in self.sentinels)


def is_sentinel(url: str) -> bool:
    """Whether a URL names sentinels instead of a server."""
    return url.strip().partition("://")[0] in _SCHEMES


def _options(query: str, *, tls: bool) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = (*_OPTIONS, *_TLS_OPTIONS)
    if options.keys() - set(known):
        raise ValueError(f"one of its options is not supported; supported options are {', '.join(sorted(known))}")
    if not tls and (wrong := [option for option in options if option in _TLS_OPTIONS]):
        raise ValueError(f"the option {wrong[0]!r} needs a URL with rediss+sentinel://")
    return options


def _path(path: str) -> tuple[str, str]:
    """Name of the primary and number of the database: `mymaster/0`, `mymaster`, `0` or nothing."""
    parts = [unquote(part) for part in path.split("/") if part]
    if len(parts) > 2:
        raise ValueError(f"only the primary's name and the database may follow the hosts, as in {_EXAMPLE}")
    if len(parts) == 2:
        return parts[0], parts[1]
    only = parts[0] if parts else ""
    return ("", only) if only.isdigit() else (only, "")


def _host(part: str) -> tuple[str, int]:
    found = _HOST.match(part.strip())
    port = int((found and found["port"]) or _PORT)
    if found is None or not 0 < port < 65536:
        raise ValueError(
            f"its hosts cannot be parsed: write them as in {_EXAMPLE}, and percent-encode special characters in user "
            "name and password"
        )
    return found["host"].strip("[]"), port


def _number(db: str) -> int:
    if db and not db.isdigit():
        raise ValueError(f"the database is a number, as in {_EXAMPLE}")
    return int(db or 0)
