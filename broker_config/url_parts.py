"""The parts of a URL that Redis and Sentinel URLs have in common, as kombu spells them."""

from __future__ import annotations

from urllib.parse import quote


def userinfo_part(username: str | None, password: str | None, *, show_password: bool) -> str:
    """The part before the host, with its '@': percent-encoded, and with '**' in place of a hidden password."""
    user = quote(username or "", safe="")
    if password is None:
        return f"{user}@" if user else ""
    return f"{user}:{quote(password, safe='') if show_password else '**'}@"


def host_part(host: str, port: int) -> str:
    """Host and port; an IPv6 address is put in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
