"""Where a credential may stand in a request, and what is none."""

from __future__ import annotations

import base64

import pytest
from starlette.datastructures import Headers

from sessions.errors import Unauthenticated
from sessions.gateway.credential import LONGEST, credential_of


def shown(*headers: tuple[str, str | bytes]) -> str:
    raw = [(name.encode(), value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in headers]
    return credential_of(Headers(raw=raw))


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "header",
    [("authorization", "Bearer KEY"), ("authorization", "bearer  KEY "), ("x-api-key", " KEY"),
     ("authorization", basic("any:KEY")), ("authorization", basic(":KEY")),
     ("authorization", "BASIC " + basic(":KEY")[6:])],
    ids=range(6),
)  # fmt: skip
def test_a_credential_is_found_where_clients_put_it(header: tuple[str, str]) -> None:
    """As a bearer token, as an API key, or as the password in an address."""
    assert shown(header) == "KEY"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "KEY")],
        [("authorization", "Digest KEY")],
        [("authorization", "Bearer KEY, Bearer KEY")],
        [("authorization", "Bearer K EY")],
        [("authorization", "Bearer K\u00e9Y")],
        [("authorization", b"Bearer K\xff\xfeY")],
        [("authorization", "Bearer K\tEY")],
        [("authorization", "Basic KEY!")],
        [("authorization", basic("KEY"))],
        [("authorization", basic("a:b\u00e9"))],
        [("authorization", basic("a:b:c"))],
        [("x-api-key", "")],
        [("x-api-key", "A" * (LONGEST + 1))],
        [("authorization", "Bearer " + "A" * 1_000_000)],
        [("authorization", "Bearer A"), ("authorization", "Bearer B")],
        [("authorization", "Bearer A"), ("x-api-key", "B")],
        [("x-api-key", "A"), ("x-api-key", "B")],
        [("authorization", "Bearer A"), ("authorization", "nonsense")],
        [("authorization", "Bearer A"), ("x-api-key", "")],
    ],
    ids=range(23),
)
def test_what_is_no_credential_is_refused(headers: list[tuple[str, str | bytes]]) -> None:
    """None, another scheme, other characters, too long, or several different ones: which one counts is not guessed."""
    with pytest.raises(Unauthenticated):
        shown(*headers)


def test_the_same_credential_twice_is_one() -> None:
    """A client that fills both headers sends the same credential twice."""
    assert shown(("authorization", "Bearer KEY"), ("x-api-key", "KEY"), ("authorization", basic("x:KEY"))) == "KEY"


def test_no_refusal_repeats_what_was_sent() -> None:
    """Problems are logged and shown; a credential in the wrong place is still one."""
    for header in (("authorization", "Bearer se cret"), ("authorization", "Token secret"), ("x-api-key", "se cret!")):
        with pytest.raises(Unauthenticated) as refused:
            shown(header)
        assert "cret" not in str(refused.value)
