"""Sentinel URLs, in the spellings that people have them in."""

from __future__ import annotations

import pytest

from broker_config.sentinel_url import SentinelUrl, is_sentinel

SAME = [
    "sentinel://one:26379,two:26380/3?master_name=mymaster",
    "sentinel://one,two:26380/?master_name=mymaster&db=3",
    "redis+sentinel://one,two:26380/mymaster/3",
    "sentinel://one:26379;sentinel://two:26380/3?master_name=mymaster",
]


@pytest.mark.parametrize("url", SAME)
def test_a_url_is_read_as_its_authors_meant_it(url: str) -> None:
    """Hosts separated by commas, or kombu's list of URLs; the primary's name as an option, or in the path."""
    assert is_sentinel(url)
    assert SentinelUrl.parse(url) == SentinelUrl((("one", 26379), ("two", 26380)), "mymaster", 3)


def test_servers_and_sentinels_have_users_of_their_own() -> None:
    """The URL's user is the servers'; passwords may have any character, percent-encoded."""
    url = SentinelUrl.parse("sentinel://app:p%40%2Fw@[::1]:1/0?master_name=m&sentinel_password=s%26t")
    assert url.server_options == {"db": 0, "username": "app", "password": "p@/w"}
    assert url.sentinel_options() == {"username": None, "password": "s&t"}
    assert url.for_kombu(password=True) == "sentinel://app:p%40%2Fw@[::1]:1/0"
    assert url.for_kombu(password=False) == "sentinel://app:**@[::1]:1/0"
    assert "p@/w" not in repr(url)
    assert "s&t" not in repr(url)


def test_tls_checks_certificates_unless_told_otherwise() -> None:
    """Certificates of the servers and of the sentinels are checked."""
    url = SentinelUrl.parse("rediss+sentinel://one/m/0?ssl_ca_certs=/ca.pem")
    assert url.server_options["ssl_cert_reqs"] == "required"
    assert url.sentinel_options()["ssl"] is True
    assert url.sentinel_options()["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sentinel://one:26379/0", "does not name the primary"),
        ("sentinel://?master_name=m", "hosts"),
        ("sentinel://one:99999?master_name=m", "hosts"),
        ("sentinel://one/m/s3cret", "number"),
        ("sentinel://one/a/b/c", "may follow the hosts"),
        ("sentinel://one/0?master_name=m&s3cret=1", "options"),
        ("sentinel://one/0?master_name=m&ssl_ca_certs=x", "rediss"),
        ("sentinel://u:s3&cr#et@one/0", "does not name the primary"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(url: str, says: str) -> None:
    """The error has no piece of the URL: a password may be in it."""
    with pytest.raises(ValueError, match=says) as raised:
        SentinelUrl.parse(url)
    assert "s3" not in str(raised.value)
