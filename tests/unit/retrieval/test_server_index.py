"""How the index speaks to a Qdrant server: auth, TLS, time limits, retries, batches; what it says when all fails."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions.errors import BadRequest, IndexMismatch, IndexUnavailable
from tests.support.knowledge import MODEL, add, asking, chunk
from tests.support.qdrant_server import Answer, QdrantServer
from tests.support.waiting import await_until
from workers.retrieval.index import open_index
from workers.retrieval.index.conditions import TIME
from workers.retrieval.index.records import KEYWORDS, to_stored
from workers.retrieval.index.server import ServerIndex, collections
from workers.retrieval.index.server.requests import Requests
from workers.retrieval.ports import IndexPoint, Scope

ALICE = Scope("acme", "user:alice")
OURS = {"sessionfleet": {"format": 1, "model": MODEL.id, "dimension": MODEL.dimension}}
BUSY = (503, {"status": {"error": "busy"}})


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with QdrantServer(metadata=OURS) as started:
        started.indexed |= {*KEYWORDS, TIME}
        yield started


@pytest.fixture
async def index(server: QdrantServer) -> AsyncIterator[ServerIndex]:
    opened = ServerIndex.connect(server.url, timeout=5)
    opened._requests._backoff = lambda _: 0.0  # type: ignore[assignment]
    yield opened
    await opened.close()


async def find(index: ServerIndex) -> Any:
    return await index.search("c", MODEL, asking("tea", ALICE))


# --- retries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_failure_that_may_pass_is_tried_again(index: ServerIndex, server: QdrantServer, status: int) -> None:
    """The caller notices nothing."""
    await find(index)
    server.asked.clear()
    server.fail((status, {"status": {"error": "busy"}}), (status, b"<html>"))
    assert await find(index) == []
    assert len(server.requests("POST", "/points/query/batch")) == 3


async def test_a_server_that_stays_busy_is_given_up(index: ServerIndex, server: QdrantServer) -> None:
    """After four attempts; the message says what it answered and what to check."""
    await find(index)
    server.asked.clear()
    server.fail(*[BUSY] * 4)
    with pytest.raises(IndexUnavailable, match=r"Qdrant at 'http://localhost:\d+' answered 503.*busy.*QDRANT_URL"):
        await find(index)
    assert len(server.asked) == 4


async def test_a_server_that_names_a_pause_is_given_it_within_bounds(server: QdrantServer) -> None:
    """A pause of an hour would outlast every operation."""
    index = ServerIndex.connect(server.url, timeout=5)
    index._requests._longest_pause = 0.01
    await find(index)
    server.fail((429, {"status": {"error": "slow down"}}, {"Retry-After": "3600"}))
    assert await asyncio.wait_for(find(index), 5) == []
    server.fail((429, {"status": {"error": "slow down"}}, {"Retry-After": "Thu, 26 Nov 2026 10:00:00 GMT"}))
    assert await asyncio.wait_for(find(index), 5) == []
    await index.close()


async def test_a_full_disk_of_the_server_is_called_so(index: ServerIndex, server: QdrantServer) -> None:
    """Qdrant answers 500 in these words, and searches go on; its URL has nothing to do with it."""
    await find(index)
    full = "Service internal error: No space left on device: WAL buffer size exceeds available disk space"
    server.fail(*[(500, {"status": {"error": full}})] * 4)
    with pytest.raises(IndexUnavailable, match=r"answered 500.*No space left.*; make room on its disk$"):
        await find(index)


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_a_failure_that_cannot_pass_is_not_tried_again(
    index: ServerIndex, server: QdrantServer, status: int
) -> None:
    """Another try would only cost time."""
    await find(index)
    server.asked.clear()
    server.fail((status, {"status": {"error": "no"}}))
    with pytest.raises(IndexUnavailable, match=str(status)):
        await find(index)
    assert len(server.asked) == 1


async def test_a_server_that_does_not_answer_in_time_is_given_up(server: QdrantServer) -> None:
    """The time limit applies to each attempt."""
    index = ServerIndex.connect(server.url, timeout=1, attempts=1)
    server.stuck.clear()
    with pytest.raises(IndexUnavailable, match=r"cannot be reached \(ReadTimeout"):
        await find(index)
    server.stuck.set()
    await index.close()


async def test_a_server_that_is_not_there_is_named() -> None:
    """The error has its address without the URL's secrets."""
    index = ServerIndex.connect("http://user:secret@127.0.0.1:1", timeout=1, attempts=2)
    with pytest.raises(
        IndexUnavailable, match=r"http://127.0.0.1:1' cannot be reached \(ConnectError.*is running.*QDRANT_URL"
    ) as e:
        await find(index)
    assert "secret" not in str(e.value)
    await index.close()


async def test_something_that_is_no_qdrant_is_called_so(index: ServerIndex, server: QdrantServer) -> None:
    """The server may answer with a web page or with other JSON."""
    server.fail((200, b"<html>hello</html>"))
    with pytest.raises(IndexUnavailable, match="reply that is not Qdrant"):
        await find(index)
    server.fail((404, b"<html>not found</html>"))
    with pytest.raises(IndexUnavailable, match="answered 404"):
        await find(index)


# --- authentication ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
async def test_the_key_goes_with_every_request(server: QdrantServer, tmp_path: Path) -> None:
    """Qdrant expects it in its own header."""
    index = open_index(tmp_path, qdrant_url=server.url, api_key="s3cret", timeout=5)
    await add(index, "c", chunk(ALICE, "tea"))
    assert {headers.get("api-key") for headers in server.headers} == {"s3cret"}
    await index.close()


@pytest.mark.parametrize(("status", "advice"), [(401, r"set QDRANT_API_KEY"), (403, r"QDRANT_API_KEY .* may write")])
async def test_a_refused_key_names_its_setting(
    index: ServerIndex, server: QdrantServer, status: int, advice: str
) -> None:
    """A key that may only read is refused with 403. The key itself is not in the message."""
    server.fail((status, b"Must provide an API key"))
    with pytest.raises(IndexUnavailable, match=advice):
        await find(index)


@pytest.mark.parametrize("url", ["qdrant.example.org", "redis://localhost:6379", "http://"])
def test_an_url_that_is_none_is_refused_at_once(url: str, tmp_path: Path) -> None:
    """The message has an example of a valid one."""
    with pytest.raises(BadRequest, match="https://qdrant"):
        open_index(tmp_path, qdrant_url=url, api_key=None, timeout=5)


def _self_signed(folder: Path) -> ssl.SSLContext:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once; with its authority trusted, the same server is used."""
    with QdrantServer(metadata=OURS, tls=_self_signed(tmp_path)) as server:
        index = ServerIndex.connect(server.url, timeout=5)
        index._requests._backoff = lambda _: pytest.fail("tried again")  # type: ignore[assignment]
        with pytest.raises(IndexUnavailable, match=r"CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"):
            await find(index)
        assert server.asked == []
        await index.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
        index = ServerIndex.connect(server.url, timeout=5)
        assert await find(index) == []
        await index.close()


# --- batches -----------------------------------------------------------------------------------------------


async def test_chunks_go_in_batches_of_points_and_of_bytes(server: QdrantServer) -> None:
    """No request grows beyond what a server accepts; none is lost between two."""
    from qdrant_client import AsyncQdrantClient

    def sizes() -> list[int]:
        return [len(body["points"]) for body in server.requests("PUT", "/points")]

    client = AsyncQdrantClient(url=server.url, check_compatibility=False)
    points = [chunk(ALICE, f"tea {number}", number=number) for number in range(25)]
    await ServerIndex(client, Requests("x"), batch_points=10).write("c", MODEL, points)
    assert sizes() == [10, 10, 5]
    server.asked.clear()
    await ServerIndex(client, Requests("x"), batch_bytes=2000).write("c", MODEL, points)
    assert sum(sizes()) == 25
    assert max(sizes()) < 10
    server.asked.clear()
    await ServerIndex(client, Requests("x"), batch_bytes=1).write("c", MODEL, points)
    assert sizes() == [1] * 25
    await client.close()


async def test_a_write_waits_until_the_server_has_done_it(index: ServerIndex, server: QdrantServer) -> None:
    """Otherwise a publish right after it would miss some points."""
    from unittest.mock import patch

    with patch.object(index._client, "upsert", wraps=index._client.upsert) as upsert:
        await index.write("c", MODEL, [chunk(ALICE, "tea")])
    assert upsert.call_args.kwargs["wait"] is True


async def test_documents_that_are_indexed_at_the_same_time_share_requests(
    index: ServerIndex, server: QdrantServer
) -> None:
    """The first write is under way when the others come, so these go together; and publications likewise."""
    await find(index)
    documents = [[chunk(ALICE, f"{n} {m}", source=f"d{n}", number=m) for m in range(16)] for n in range(8)]
    server.asked.clear()
    await asyncio.gather(*(index.write("c", MODEL, document) for document in documents))
    assert [len(body["points"]) for body in server.requests("PUT", "/points")] in ([16, 112], [128])
    await asyncio.gather(*(index.publish("c", ALICE, f"d{n}", "r1") for n in range(8)))
    changes = [body["operations"] for body in server.requests("POST", "/points/batch")]
    assert sum(map(len, changes)) == 16
    assert len(changes) <= 2
    assert [next(iter(change)) for change in changes[0]][:2] == ["set_payload", "delete"]


async def test_a_document_that_the_server_refuses_spoils_no_other(index: ServerIndex, server: QdrantServer) -> None:
    """The documents of the refused request are sent again, one by one."""
    await find(index)
    documents = {name: [chunk(ALICE, name, source=name)] for name in ("good", "bad", "fine")}
    bad = documents["bad"][0].id
    server.refuse = lambda path, body: path.endswith("/points") and bad in str(body.get("points"))
    tried = [index.write("c", MODEL, document) for document in documents.values()]
    good, refused, fine = await asyncio.gather(*tried, return_exceptions=True)
    assert (good, fine) == (None, None)
    assert isinstance(refused, IndexUnavailable)


async def test_a_write_that_is_given_up_before_it_is_sent_is_not_sent(index: ServerIndex, server: QdrantServer) -> None:
    """Its worker may have lost the lease. The requests of others go on."""
    await find(index)
    server.stuck.clear()
    first = asyncio.create_task(index.write("c", MODEL, [chunk(ALICE, "first")]))

    async def is_sent() -> bool:
        return bool(server.requests("POST", "/points"))

    await await_until(is_sent, description="the first request")
    given_up = asyncio.create_task(index.write("c", MODEL, [chunk(ALICE, "given up", number=1)]))
    last = asyncio.create_task(index.write("c", MODEL, [chunk(ALICE, "last", number=2)]))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    server.stuck.set()
    await asyncio.gather(first, last)
    sent = str(server.requests("PUT", "/points"))
    assert ("first" in sent, "given up" in sent, "last" in sent) == (True, False, True)


# --- searches ----------------------------------------------------------------------------------------------


async def test_the_graph_is_searched_more_widely_than_by_default(index: ServerIndex, server: QdrantServer) -> None:
    """Qdrant's default misses a tenth of the nearest 50. Words are found exactly, so their half has no such width."""
    await find(index)
    [batch] = server.requests("POST", "/points/query/batch")
    assert [(each["using"], each.get("params")) for each in batch["searches"]] == [
        ("dense", {"hnsw_ef": 256}), ("bm25", None), ("bm25", None),
    ]  # fmt: skip


async def test_a_search_that_a_replacement_overtakes_is_made_again(index: ServerIndex, server: QdrantServer) -> None:
    """Its old revision was found and is gone when it is read; without another look, the source would seem missing."""
    old, new = chunk(ALICE, "tea"), chunk(ALICE, "tea is hot", revision="r2")

    def found(*points: IndexPoint) -> Answer:
        scored = [{"id": point.id, "version": 1, "score": 0.9, "vector": {"bm25": _terms(point)}} for point in points]
        return 200, {"result": [{"points": scored}] * 3}

    def read(*points: IndexPoint) -> Answer:
        vectors = [{"dense": list(point.dense)} for point in points]
        stored = [to_stored(point, {point.id}) for point in points]
        ids = [point.id for point in points]
        return 200, {
            "result": [{"id": i, "payload": p, "vector": v} for i, p, v in zip(ids, stored, vectors, strict=True)]
        }

    await find(index)
    server.fail(found(old), read(), found(new), read(new))
    [hit] = await find(index)
    assert hit.payload["text"] == "tea is hot"
    server.asked.clear()
    server.fail(*[found(old), read()] * 5)
    assert await find(index) == []
    assert len(server.asked) == 6, "a source that is replaced all the time is not waited for"


def _terms(point: IndexPoint) -> dict[str, Any]:
    return {"indices": list(point.sparse.indices), "values": list(point.sparse.values)}


# --- collections -------------------------------------------------------------------------------------------


async def test_a_collection_is_made_with_both_vectors_and_an_index_for_tenants(
    index: ServerIndex, server: QdrantServer
) -> None:
    """The server then keeps each tenant's points together."""
    server.exists = False
    server.indexed.clear()
    await index.write("c", MODEL, [chunk(ALICE, "tea")])
    [made] = server.requests("PUT", "/collections/c")
    assert made["vectors"]["dense"] == {"size": 16, "distance": "Cosine"}
    assert made["sparse_vectors"]["bm25"]["modifier"] == "idf"
    assert made["metadata"] == OURS
    schemas = {body["field_name"]: body["field_schema"] for body in server.requests("PUT", "/index")}
    assert set(schemas) == {*KEYWORDS, TIME}
    assert schemas["tenant"] == {"type": "keyword", "is_tenant": True}
    assert {schemas[field]["type"] for field in KEYWORDS} == {"keyword"}
    assert schemas[TIME] == {"type": "integer", "lookup": False, "range": True}


async def test_two_makers_of_one_collection_do_not_disturb_each_other(index: ServerIndex, server: QdrantServer) -> None:
    """The gap between looking and making: the other one is first."""
    server.exists = False

    def first() -> None:
        server.exists, server.metadata = True, OURS

    server.rival = first
    await index.write("c", MODEL, [chunk(ALICE, "tea")])
    assert len(server.requests("PUT", "/points")) == 1


async def test_the_other_maker_of_a_collection_may_have_another_model(index: ServerIndex, server: QdrantServer) -> None:
    """Whoever creates the collection first decides its model; our vectors are refused."""
    server.exists = False

    def first() -> None:
        server.exists = True
        server.metadata = {"sessionfleet": {"format": 1, "model": "another", "dimension": 16}}

    server.rival = first
    with pytest.raises(IndexMismatch, match="'another'"):
        await index.write("c", MODEL, [chunk(ALICE, "tea")])
    assert server.requests("PUT", "/points") == []


async def test_an_index_that_a_crash_left_out_is_made_later(index: ServerIndex, server: QdrantServer) -> None:
    """The process died between creating the collection and its indexes."""
    server.indexed -= {"tenant", "tags"}
    await find(index)
    assert {body["field_name"] for body in server.requests("PUT", "/index")} == {"tenant", "tags"}


@pytest.mark.parametrize("metadata", [{}, {"owner": "somebody"}])
async def test_somebody_elses_collection_is_left_alone(
    index: ServerIndex, server: QdrantServer, metadata: dict[str, Any]
) -> None:
    """It is neither read, written nor listed."""
    server.metadata = metadata
    with pytest.raises(IndexMismatch, match="did not create; choose another name"):
        await index.write("c", MODEL, [chunk(ALICE, "tea")])
    with pytest.raises(IndexMismatch, match="did not create"):
        await index.remove("c", ALICE)
    assert await index.collections() == {}
    assert server.requests("PUT", "/points") == []


async def test_a_collection_of_a_newer_format_is_said_to_be_ours(index: ServerIndex, server: QdrantServer) -> None:
    """Another name, which is the advice about somebody else's collection, would hide the documents in it."""
    server.metadata = {"sessionfleet": {**OURS["sessionfleet"], "format": 2}}
    with pytest.raises(IndexUnavailable, match=r"'c'.* format 2.*reads 1; use the version that wrote it"):
        await find(index)
    with pytest.raises(IndexUnavailable, match="format 2"):
        await index.collections()
    assert server.requests("PUT", "/points") == []


@pytest.mark.parametrize("about", ["ours", {"format": 1}, {"format": 1, "model": MODEL.id}])
async def test_a_collection_with_damaged_metadata_is_refused(
    index: ServerIndex, server: QdrantServer, about: Any
) -> None:
    """Somebody has changed them, and the model of the vectors is no longer known."""
    server.metadata = {"sessionfleet": about}
    with pytest.raises(IndexUnavailable, match=r"metadata of the collection 'c'.*cannot be read.*restore"):
        await find(index)


@pytest.mark.parametrize(
    "params",
    [
        {"vectors": {"size": 16, "distance": "Cosine"}, "sparse_vectors": {"bm25": {}}},
        {"vectors": {"dense": {"size": 8, "distance": "Cosine"}}, "sparse_vectors": {"bm25": {}}},
        {"vectors": {"dense": {"size": 16, "distance": "Cosine"}}},
    ],
)
async def test_a_collection_with_other_vectors_is_refused(
    index: ServerIndex, server: QdrantServer, params: dict[str, Any]
) -> None:
    """It was copied without its layout, say; otherwise the server would refuse each request with its own words."""
    server.params = params
    with pytest.raises(IndexUnavailable, match=r"'c'.* not the vectors .*restore"):
        await find(index)


async def test_what_is_known_of_a_collection_is_looked_up_again(
    index: ServerIndex, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have put another one in its place, whose vectors are another model's."""
    await find(index)
    server.metadata = {"sessionfleet": {"format": 1, "model": "another", "dimension": 16}}
    assert await find(index) == []
    monkeypatch.setattr(collections, "_KNOWN_FOR", 0.0)
    with pytest.raises(IndexMismatch, match="'another'"):
        await find(index)


async def test_a_server_that_is_too_old_is_refused_before_anything_is_made(
    index: ServerIndex, server: QdrantServer
) -> None:
    """It would lose what marks the collection as ours."""
    server.exists, server.version = False, "1.15.4"
    with pytest.raises(IndexUnavailable, match=r"1\.15\.4.*1\.16 or newer"):
        await index.write("c", MODEL, [chunk(ALICE, "tea")])
    assert not server.exists


async def test_a_collection_that_somebody_removed_is_empty_and_made_again(
    index: ServerIndex, server: QdrantServer
) -> None:
    """The first 404 clears what was remembered about it."""
    await find(index)
    server.exists = False
    assert await find(index) == []
    await index.write("c", MODEL, [chunk(ALICE, "tea")])
    server.exists = False
    with pytest.raises(IndexUnavailable, match="removed meanwhile"):
        await index.write("c", MODEL, [chunk(ALICE, "tea")])
    await index.write("c", MODEL, [chunk(ALICE, "tea")])
    assert server.exists
