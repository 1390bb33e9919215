"""Memory, knowledge and operations over HTTP, on a real gateway with real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from sessions.gateway.segments import segment
from tests.support.gateway import GatewayProcess
from tests.support.http import good, problem, sent_events

pytestmark = pytest.mark.usefixtures("fleet")
ANN = {"X-User-ID": "ann"}
WAIT = {"Prefer": "wait=30"}
TRAINS = "Trains are booked in second class up to four hours."


@pytest.fixture(scope="module")
def http(gateway_process: GatewayProcess) -> Iterator[httpx.Client]:
    """A client for the gateway that tests share."""
    with gateway_process.client() as client:
        yield client


def test_a_memory_is_kept_found_and_forgotten(http: httpx.Client) -> None:
    """Of the user in all sessions, unless `scope` says the session's."""
    base = "/v1/sessions/m-1/memory"
    made = http.post(base, json={"text": "Ann prefers window seats", "metadata": {"topic": "travel"}}, headers=ANN)
    memory = good(made, 201)["id"]
    assert made.headers["location"] == f"{base}/{memory}"
    shown = good(http.get(f"/v1/sessions/m-2/memory/{memory}", headers=ANN))
    assert (shown["text"], shown["scope"], "score" in shown) == ("Ann prefers window seats", "user", False)
    asked = {"query": "where does she like to sit?", "filters": {"topic": "travel"}}
    found = good(http.post("/v1/sessions/m-2/memory/search", json=asked, headers=ANN))["memories"]
    assert found[0]["id"] == memory
    assert found[0]["score"] > 0
    changed = good(http.patch(f"{base}/{memory}", json={"text": "Ann prefers aisle seats"}, headers=ANN))
    assert (changed["text"], changed["metadata"], changed["version"]) == (
        "Ann prefers aisle seats",
        {"topic": "travel"},
        2,
    )
    assert changed == good(http.get(f"{base}/{memory}", headers=ANN))
    problem(http.patch(f"{base}/{memory}", json={"text": "x", "version": 1}, headers=ANN), 409, "StateConflict")
    problem(http.patch(f"{base}/{memory}", json={}, headers=ANN), 422, "BadRequest")
    problem(http.patch(f"{base}/{memory}", json={"text": "x"}, headers={"X-User-ID": "bob"}), 403, "SessionOwnerError")
    problem(http.patch(f"{base}/nothing", json={"text": "x"}, headers=ANN), 404, "NotFound")
    problem(http.get(f"{base}/{memory}", headers={"X-User-ID": "bob"}), 403, "SessionOwnerError")
    assert http.delete(f"{base}/{memory}", headers=ANN).status_code == 204
    problem(http.get(f"{base}/{memory}", headers=ANN), 404, "NotFound")
    problem(http.delete(f"{base}/{memory}", headers=ANN), 404, "NotFound")


def test_memories_come_in_pages_and_are_cleared(http: httpx.Client) -> None:
    """`cursor` leads to the next page; clearing returns how many there were."""
    base = "/v1/sessions/m-pages/memory"
    for number in range(3):
        good(http.post(base, json={"text": f"fact {number}"}), 201)
    first = good(http.get(base, params={"limit": 2}))
    rest = good(http.get(base, params={"limit": 2, "cursor": first["cursor"]}))
    assert [m["text"] for m in [*first["memories"], *rest["memories"]]] == ["fact 2", "fact 1", "fact 0"]
    assert rest["cursor"] is None
    assert good(http.delete(base, params={"type": "short"})) == {"deleted": 0}
    assert good(http.delete(base)) == {"deleted": 3}
    problem(http.get(base, params={"scope": "user"}), 422, "BadRequest")
    problem(http.post(base, json={"text": " "}), 422, "BadRequest")


def test_a_text_is_added_followed_and_found(http: httpx.Client) -> None:
    """202 with the operation's address; its events end, its result says what became of the document."""
    base = "/v1/sessions/k-text/knowledge"
    added = http.post(base, json={"text": TRAINS, "name": "policy.txt", "metadata": {"year": 2026}})
    assert added.status_code == 202
    operation = added.headers["location"]
    with http.stream("GET", f"{operation}/events") as stream:
        assert [event.type for event in sent_events(stream.iter_lines())][-1] == "ended"
    done = good(http.get(operation, headers=WAIT))
    assert (done["status"], done["result"]["status"], done["session_id"]) == ("succeeded", "added", "k-text")
    asked = {"query": "which class do I travel in?", "filters": {"year": {"$gte": 2025, "$lt": 2027}}}
    assert good(http.post(f"{base}/search", json=asked))["passages"][0]["text"] == TRAINS
    unknown = {**asked, "filters": {"year": {"gte": 2025}}}
    assert "use '$gte'" in problem(http.post(f"{base}/search", json=unknown), 422, "BadRequest")["detail"]
    assert good(http.post(f"{base}/search", json={**asked, "sources": ["other.txt"]}))["passages"] == []
    assert [d["source"] for d in good(http.get(base))["documents"]] == ["policy.txt"]
    assert good(http.delete(f"{base}/policy.txt")) == {"chunks": 1}
    assert good(http.delete(f"{base}/policy.txt")) == {"chunks": 0}


def test_a_text_is_never_taken_for_a_path(http: httpx.Client) -> None:
    """What a caller sends is read nowhere but in the request: the gateway's own files are not its."""
    added = http.post("/v1/sessions/k-path/knowledge", json={"text": "/etc/passwd"}, headers=WAIT)
    assert good(added)["result"]["bytes"] == len("/etc/passwd")
    problem(http.post("/v1/sessions/k-path/knowledge", json={"url": "/etc/passwd"}), 422, "BadRequest")
    problem(http.post("/v1/sessions/k-path/knowledge", json={"url": "file:///etc/passwd"}), 422, "BadRequest")


def test_a_file_is_uploaded_into_a_base_that_sessions_share(http: httpx.Client) -> None:
    """As a form; another session finds it when it names the base, and no other one does."""
    base = "/v1/sessions/k-file/knowledge"
    form = {"scope": "handbook-http", "metadata": json.dumps({"year": 2026})}
    added = http.post(base, data=form, files={"file": ("docs/rules ü.md", f"# Rules\n\n{TRAINS}")}, headers=WAIT)
    assert good(added)["result"]["source"] == "rules ü.md"
    assert good(http.get(added.headers["location"]))["status"] == "succeeded"
    search = "/v1/sessions/k-other/knowledge/search"
    asked = {"query": "second class"}
    assert good(http.post(search, json=asked))["passages"] == []
    found = good(http.post(search, json={**asked, "bases": ["handbook-http"]}))["passages"]
    assert "second class" in found[0]["text"]
    assert good(http.post(search, json={**asked, "bases": ["handbook-http"], "min_score": 0.99}))["passages"] == []
    assert http.post(search, json={**asked, "min_score": 1.5}).status_code == 422
    assert good(http.delete(base, params={"scope": "handbook-http"}))["chunks"] > 0


def test_the_same_key_is_the_same_document(http: httpx.Client) -> None:
    """Sent again it is the same operation; with another file of the same name it is a conflict."""
    base, key = "/v1/sessions/k-key/knowledge", {"Idempotency-Key": "upload-1"}
    first = http.post(base, files={"file": ("a.txt", TRAINS)}, headers=key)
    again = http.post(base, files={"file": ("a.txt", TRAINS)}, headers=key)
    assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])
    problem(http.post(base, files={"file": ("a.txt", "Another.")}, headers=key), 409, "IdempotencyConflict")


@pytest.mark.parametrize("name", ["a/b %2F ü?#.txt", "..", "two\nlines.txt\n", "search"])
def test_a_document_is_removed_by_any_name(http: httpx.Client, name: str) -> None:
    """Both the name that was given and the name in the listing work."""
    base = "/v1/sessions/k-names/knowledge"
    good(http.post(base, json={"text": f"{TRAINS} {name}", "name": name}, headers=WAIT))
    assert [d["source"] for d in good(http.get(base))["documents"]] == [name]
    assert good(http.delete(f"{base}/{segment(name)}")) == {"chunks": 1}
    assert good(http.get(base))["documents"] == []


@pytest.mark.parametrize(
    ("request_parts", "status"),
    [
        ({"json": {"text": "a", "url": "https://example.com"}}, 422),
        ({"json": {}}, 422),
        ({"json": {"text": "a", "colour": "red"}}, 422),
        ({"json": {"text": "a", "name": ""}}, 422),
        ({"content": b'{"text": NaN}', "headers": {"Content-Type": "application/json"}}, 422),
        ({"content": b"text", "headers": {"Content-Type": "text/plain"}}, 422),
        ({"files": {"file": ("a.txt", "a")}, "data": {"metadata": "["}}, 422),
        ({"files": {"file": ("a.txt", "")}}, 422),
        ({"files": {"other": ("a.txt", "a")}}, 422),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 422),
        ({"files": {"file": ("a.bin", b"0" * (33 * 1024 * 1024))}}, 413),
    ],
)
def test_documents_that_cannot_be_taken(http: httpx.Client, request_parts: dict[str, object], status: int) -> None:
    """Each invalid document gets a problem response with the reason, and none is accepted."""
    problem(http.post("/v1/sessions/k-bad/knowledge", **request_parts), status)  # type: ignore[arg-type]


def test_an_operation_is_its_sessions_and_its_users(http: httpx.Client) -> None:
    """Another user is 403, another session's operation no operation of this one."""
    added = http.post("/v1/sessions/k-mine/knowledge", json={"text": TRAINS}, headers={**ANN, **WAIT})
    path, name = added.headers["location"], good(added)["id"]
    for method, url in (("GET", path), ("GET", f"{path}/events"), ("POST", f"{path}/cancel")):
        problem(http.request(method, url, headers={"X-User-ID": "bob"}), 403, "SessionOwnerError")
    problem(http.get(f"/v1/sessions/k-not-mine/operations/{quote(name)}"), 404, "InvalidTurnId")
    unknown = f"/v1/sessions/k-mine/operations/k-mine~knowledge~{'0' * 32}"
    problem(http.get(unknown, headers=ANN), 404, "TurnNotFound")
    assert http.post(f"{path}/cancel", headers=ANN).json()["status"] == "succeeded"
    problem(http.get("/v1/sessions/k-mine/knowledge", headers={"X-User-ID": "bob"}), 403, "SessionOwnerError")
