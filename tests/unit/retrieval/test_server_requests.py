"""The index's requests fit the REST interface of each Qdrant version that it supports, by the servers' own documents.

`tests/support/qdrant_requests.json` has the schemas of the request bodies, from `docs/redoc/master/openapi.json` of
these versions of Qdrant (Apache-2.0): only those that a request of ours uses; a reference to any other is `false`. A
request that starts to use another part fails here until its schema is added from all versions.

A server ignores fields that it does not know, so here they are errors.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.knowledge import LEXICAL, MODEL, chunk, vector
from tests.support.qdrant_server import QdrantServer
from workers.retrieval.index.server import ServerIndex
from workers.retrieval.ports import IndexQuery, Scope

ALICE = Scope("acme", "user:alice")
BASE = Scope("acme", "base:handbook")
FILE = Path(__file__).parents[2] / "support" / "qdrant_requests.json"
Request = tuple[str, str, dict[str, Any]]


def _versions() -> dict[str, Any]:
    """For each version, the bodies and schemas: the file has those that differ from the version before."""
    versions: dict[str, Any] = {}
    known: dict[str, dict[str, Any]] = {"bodies": {}, "schemas": {}}
    for version, changed in json.loads(FILE.read_text())["versions"].items():
        known = {part: {**schemas, **changed[part]} for part, schemas in known.items()}
        versions[version] = known
    return versions


VERSIONS = _versions()


async def requests_of_every_method() -> list[Request]:
    """What the index sends, with every kind of filter."""
    with QdrantServer() as server:
        index = ServerIndex.connect(server.url, timeout=5)
        points = [chunk(ALICE, "tea is hot", metadata={"lang": "en", "year": 2020}), chunk(ALICE, "", number=1)]
        await index.write("c", MODEL, points)
        await index.write("c", MODEL, points, published=True)
        await index.publish("c", ALICE, "notes", "r1")
        for more in FILTERS:
            query = IndexQuery(vector("tea"), LEXICAL.query("hot tea"), [ALICE, BASE], **more)
            await index.search("c", MODEL, query)
        await index.search("c", MODEL, IndexQuery(None, LEXICAL.query("hot tea"), [ALICE]))
        await index.count("c", ALICE, source="notes", revision="r1")
        await index.remove("c", ALICE, source="notes")
        for scope in (None, ALICE):
            assert [page async for page in index.scroll("c", scope)] == []
        await index._set_payload("c", [points[0].id], {"tags": ["a"]})
        await index.collections()
        await index.close()
        return server.asked


FILTERS: list[dict[str, Any]] = [
    {},
    {"sources": ["notes", "letters"]},
    {"since_ms": 1, "until_ms": 2},
    {"metadata": {"lang": ["en", "de"]}},
    {"metadata": {"year": {"$gte": 2000, "$ne": 2010}, "$or": [{"lang": "en"}, {"$not": {"lang": "de"}}]}},
]


@pytest.fixture(scope="module")
def sent() -> list[Request]:
    return asyncio.run(requests_of_every_method())


def validator(version: str, schema: Any) -> Draft202012Validator:
    return Draft202012Validator({"components": {"schemas": VERSIONS[version]["schemas"]}, **schema})


@pytest.mark.parametrize("version", VERSIONS)
def test_each_request_fits_the_document_of_each_version(sent: list[Request], version: str) -> None:
    """No version lacks a field that is sent, or calls it differently."""
    checked = set()
    for method, path, body in sent:
        place = f"{method} {path.replace('/collections/c', '/collections/{collection_name}')}"
        if body:
            validator(version, VERSIONS[version]["bodies"][place]).validate(body)
            checked.add(place)
    assert checked == set(VERSIONS[version]["bodies"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_that_a_version_does_not_know_is_noticed(version: str) -> None:
    """Such as a field with a typing error, or a query that came later."""
    search = VERSIONS[version]["bodies"]["POST /collections/{collection_name}/points/query/batch"]
    right = {"query": [0.1], "using": "dense", "limit": 5}
    assert validator(version, search).is_valid({"searches": [right]})
    assert not validator(version, search).is_valid({"searches": [{**right, "query": {"text": "tea"}}]})
    assert not validator(version, search).is_valid({"searches": [{**right, "limits": 5}]})
