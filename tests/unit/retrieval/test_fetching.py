"""Fetching a document: limited in size, time and redirects, and never from internal addresses by default."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import itertools
import re
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from broker_config.settings import Settings
from sessions.errors import DocumentError, DocumentTooLarge
from sessions.protocol.knowledge_requests import AddKnowledge
from sessions.store.sealing import KeyRing
from tests.support.web import Answer, Web, web_server
from workers.retrieval.fetching import Fetched, FetchLimits, fetch_url, redacted
from workers.retrieval.knowledge.document_loader import DocumentLoader

SMALL = FetchLimits(document_bytes=100_000, seconds=20)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as running:
        yield running


async def loopback(host: str, port: int) -> Sequence[str]:
    """A resolver for which every name is this machine."""
    return ["127.0.0.1"]


async def test_a_document_is_fetched_with_name_and_type(web: Web) -> None:
    """Name and type tell what kind of document it is."""
    web.answers["/papers/my%20paper.pdf"] = Answer(b"bytes", headers={"Content-Type": "application/pdf"})
    fetched = await fetch_url(web.url("/papers/my%20paper.pdf?v=1"), allow_private=True)
    assert fetched == Fetched(b"bytes", "my paper.pdf", "application/pdf")
    assert web.asked[0][0] == "/papers/my%20paper.pdf?v=1"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="report.pdf"', "report.pdf"),
        ("attachment; filename*=UTF-8''caf%C3%A9.txt", "caf\xe9.txt"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("inline", "download"),
    ],
)
async def test_the_server_may_name_the_file(web: Web, header: str, name: str) -> None:
    """The name is used as a name, never as a path."""
    web.answers["/download"] = Answer(b"x", headers={"Content-Disposition": header})
    assert (await fetch_url(web.url("/download"), allow_private=True)).name == name


async def test_a_page_without_path_is_named_by_its_host(web: Web) -> None:
    """Every document needs a name."""
    web.answers["/"] = Answer(b"x")
    assert (await fetch_url(web.url("/"), allow_private=True)).name == "127.0.0.1"


async def test_the_address_that_was_checked_is_the_one_that_is_called(web: Web) -> None:
    """The name is resolved once, so that it cannot become another; the server still hears the name."""
    resolved: list[str] = []

    async def once(host: str, port: int) -> Sequence[str]:
        resolved.append(host)
        return ["127.0.0.1"]

    web.answers["/a"] = Answer(b"x")
    await fetch_url(web.url("/a", host="docs.example"), allowed_hosts=["docs.example"], resolver=once)
    assert resolved == ["docs.example"]
    assert web.asked[0][1]["host"] == f"docs.example:{web.port}"


async def test_the_next_address_is_tried_where_one_cannot_be_reached(web: Web) -> None:
    """A host with two families of addresses is reached over the one that works."""

    async def two(host: str, port: int) -> Sequence[str]:
        return ["::1", "127.0.0.1"]

    web.answers["/a"] = Answer(b"x")
    assert (await fetch_url(web.url("/a", host="docs.example"), allow_private=True, resolver=two)).data == b"x"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/a", "http://[::1]:1/", "http://docs.example/", "file:///etc/passwd"]
)
async def test_private_addresses_are_refused_by_default(url: str) -> None:
    """The worker's network is not the user's."""
    with pytest.raises(DocumentError, match=r"cannot be fetched: the (host|scheme)"):
        await fetch_url(url, resolver=loopback)


async def test_every_redirect_is_checked_anew(web: Web) -> None:
    """A public page may send a visitor to a private one."""
    web.answers["/start"] = Answer(status=302, headers={"Location": "http://metadata.example/secrets"})
    with pytest.raises(DocumentError, match=r"/start' cannot be fetched: the host 'metadata\.example'"):
        await fetch_url(web.url("/start", host="docs.example"), allowed_hosts=["docs.example"], resolver=loopback)
    web.answers["/file"] = Answer(status=301, headers={"Location": "file:///etc/passwd"})
    with pytest.raises(DocumentError, match="'file' is not allowed"):
        await fetch_url(web.url("/file"), allow_private=True)


async def test_redirects_are_followed_and_counted(web: Web) -> None:
    """Relative redirects work, too; the last page gives the document its name."""
    web.answers["/a/1"] = Answer(status=302, headers={"Location": "2?x=1"})
    web.answers["/a/2"] = Answer(status=308, headers={"Location": "/end.md"})
    web.answers["/end.md"] = Answer(b"x")
    assert (await fetch_url(web.url("/a/1"), allow_private=True)).name == "end.md"
    web.answers["/loop"] = Answer(status=307, headers={"Location": "/loop"})
    with pytest.raises(DocumentError, match="redirects more than 5 times"):
        await fetch_url(web.url("/loop"), allow_private=True)
    assert [path for path, _ in web.asked].count("/loop") == 6


async def test_a_password_goes_to_its_host_only_and_into_no_error(web: Web) -> None:
    """Neither does a query, which often holds a signature."""
    web.answers["/a"] = Answer(status=302, headers={"Location": f"http://other.example:{web.port}/b"})
    url = web.url("/a?token=hunter2", host="me:hunter2@docs.example")
    with pytest.raises(DocumentError, match="answered 404") as caught:
        await fetch_url(url, allow_private=True, resolver=loopback)
    assert [headers.get("authorization") for _, headers in web.asked] == ["Basic bWU6aHVudGVyMg==", None]
    web.answers["/a"] = Answer(status=500)
    with pytest.raises(DocumentError, match="answered 500") as again:
        await fetch_url(url, allow_private=True, resolver=loopback)
    assert "hunter2" not in f"{caught.value} {again.value}"
    assert redacted(url) == web.url("/a", host="docs.example")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (204, "answered 204 (No Content): there is no content"),
        (300, "answered 300 (Multiple Choices): there are several versions"),
        (302, "answered 302 (Found): it redirects without saying where to"),
        (401, "answered 401 (Unauthorized): it needs a login"),
        (403, "answered 403 (Forbidden): it needs a login"),
        (404, "answered 404 (Not Found): there is no document at this URL"),
        (410, "answered 410 (Gone): there is no document at this URL"),
        (418, "answered 418 (I'm a teapot): the server does not accept the request"),
        (429, "answered 429 (Too Many Requests): the server asks to wait"),
        (503, "answered 503 (Service Unavailable): the server failed"),
        (599, "answered 599: the server failed"),
    ],
)
async def test_a_status_is_explained(web: Web, status: int, says: str) -> None:
    """Only some of them are a question of a login."""
    web.answers["/a"] = Answer(status=status)
    with pytest.raises(DocumentError, match=re.escape(f"/a' {says}")):
        await fetch_url(web.url("/a"), allow_private=True)


async def test_a_document_that_says_it_is_too_large_is_not_fetched(web: Web) -> None:
    """Its length is known before its first byte."""
    web.answers["/a"] = Answer(headers={"Content-Length": "100001"})
    with pytest.raises(DocumentTooLarge, match=r"'http://127.*/a' has more than 100,000 bytes"):
        await fetch_url(web.url("/a"), allow_private=True, limits=SMALL)


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
async def test_a_document_without_end_is_cut_off(web: Web, headers: dict[str, str]) -> None:
    """Bytes are counted as they come, unpacked ones as they are unpacked."""
    packed = gzip.compress(bytes(1_000_000)) if headers else b"x" * 10_000
    web.answers["/a"] = Answer(lambda: itertools.repeat(packed), headers=headers)
    with pytest.raises(DocumentTooLarge):
        await fetch_url(web.url("/a"), allow_private=True, limits=SMALL)


async def test_what_is_packed_unasked_is_unpacked(web: Web) -> None:
    """Some stores keep files packed, and send them so to everybody."""
    text = b"all of it " * 5_000
    web.answers["/a.txt"] = Answer(gzip.compress(text), headers={"Content-Encoding": "gzip"})
    assert (await fetch_url(web.url("/a.txt"), allow_private=True, limits=SMALL)).data == text
    assert web.asked[0][1]["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        (b"no gzip", "gzip", "damaged gzip"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip", "incomplete"),
        (b"x", "br", "encoding 'br'"),
    ],
)
async def test_what_cannot_be_unpacked_is_an_error(web: Web, body: bytes, encoding: str, says: str) -> None:
    """Half a document is not accepted."""
    web.answers["/a"] = Answer(body, headers={"Content-Encoding": encoding})
    with pytest.raises(DocumentError, match=says):
        await fetch_url(web.url("/a"), allow_private=True)


@pytest.mark.parametrize("limits", [FetchLimits(seconds=0.3), FetchLimits(read_seconds=0.3)])
async def test_a_server_that_says_nothing_is_left(web: Web, limits: FetchLimits) -> None:
    """The worker gives up after a time without a byte, and after a total time."""
    done = threading.Event()

    def silence() -> Iterator[bytes]:
        yield b"x"
        done.wait(20)

    web.answers["/a"] = Answer(silence)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(DocumentError, match="took too long"):
                await fetch_url(web.url("/a"), allow_private=True, limits=limits)
    finally:
        done.set()


@pytest.mark.parametrize("target", ["169.254.169.254", "[::ffff:a9fe:a9fe]", "2852039166", "metadata.google.internal"])
async def test_a_redirect_to_a_metadata_server_is_refused(web: Web, target: str) -> None:
    """Also where workers may fetch from private addresses: the server that redirects is a stranger's."""
    web.answers["/a"] = Answer(status=302, headers={"Location": f"http://{target}/latest/meta-data/"})

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"] if host == "127.0.0.1" else ["169.254.169.254"]

    with pytest.raises(DocumentError, match="metadata server"):
        await fetch_url(web.url("/a"), allow_private=True, resolver=resolve)


async def test_a_server_that_is_not_there_is_an_error(web: Web) -> None:
    """Only this document fails."""
    with web_server() as gone:
        pass
    with pytest.raises(DocumentError, match="cannot be fetched"):
        await fetch_url(gone.url("/a"), allow_private=True)


@pytest.mark.parametrize("url", ["", "not a url", "http://a b/", "http://[::1/", "http://x:99999/"])
async def test_what_is_no_url_is_an_error(url: str) -> None:
    """It has the same base class as the other errors of fetching."""
    with pytest.raises(DocumentError):
        await fetch_url(url, resolver=loopback)


def certificate(folder: Path, host: str) -> Path:
    """A certificate for this host that is its own authority, with its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


async def test_the_certificate_must_be_the_hosts(tmp_path: Path) -> None:
    """Though the connection goes to an address, the server is asked for its name, and has to prove it."""
    pem = certificate(tmp_path, "docs.example")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(pem)
    asked: list[str | None] = []
    served.sni_callback = lambda _, name, __: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(pem))
    with web_server(served) as web:
        web.answers["/a"] = Answer(b"x")
        good, other = (web.url("/a", host=host, scheme="https") for host in ("docs.example", "evil.example"))
        assert (await fetch_url(good, allow_private=True, resolver=loopback, tls=trusting)).data == b"x"
        with pytest.raises(DocumentError, match=r"(?i)certificate"):
            await fetch_url(other, allow_private=True, resolver=loopback, tls=trusting)
        with pytest.raises(DocumentError, match=r"(?i)certificate"):
            await fetch_url(good, allow_private=True, resolver=loopback)
    assert asked == ["docs.example", "evil.example", "docs.example"]


async def test_hosts_that_are_allowed_are_fetched_from(web: Web) -> None:
    """SESSIONFLEET_ALLOWED_HOSTS applies to documents by URL as to webhooks."""
    web.answers["/a.txt"] = Answer(b"text", headers={"Content-Type": "text/plain"})
    request = AddKnowledge(scope="session:s", source="a.txt", origin="url", url=web.url("/a.txt"))
    for hosts, found in ((("127.0.0.1",), b"text"), ((f"127.0.0.1:{web.port}",), b"text"), (("localhost",), None)):
        loader = DocumentLoader(Settings(knowledge_urls="public", allowed_hosts=hosts), cast(Any, None), KeyRing({}))
        if found is None:
            with pytest.raises(DocumentError, match="not public"):
                await loader.load(cast(Any, None), request)
        else:
            assert (await loader.load(cast(Any, None), request)).data == found
