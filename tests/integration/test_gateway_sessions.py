"""Sessions, state, checkpoints and approvals over HTTP, on a real gateway with real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from sessions import Session
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.http import good, problem, sent_events
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("fleet")


@pytest.fixture(scope="module")
def http(gateway_process: GatewayProcess) -> Iterator[httpx.Client]:
    """A client for the gateway that tests share."""
    with gateway_process.client() as client:
        yield client


ALICE = {"X-User-ID": "alice"}


def test_a_session_is_made_looked_at_and_deleted(http: httpx.Client) -> None:
    """201 with Location, then 200 for the same one; deleting it leaves 404."""
    made = http.post("/v1/sessions", json={"session_id": "made:1", "ttl": 600}, headers=ALICE)
    assert good(made, 201)["user_id"] == "alice"
    assert made.headers["location"] == "/v1/sessions/made%3A1"
    again = http.post("/v1/sessions", json={"session_id": "made:1"}, headers=ALICE)
    assert good(again)["created_at"] == made.json()["created_at"]
    assert 0 < good(http.get(made.headers["location"], headers=ALICE))["expires_in"] <= 600
    assert good(http.delete("/v1/sessions/made:1", headers=ALICE))["keys"] > 0
    problem(http.get("/v1/sessions/made:1", headers=ALICE), 404, "NotFound")


def test_a_session_without_an_id_gets_one(http: httpx.Client) -> None:
    """The id is in the body and in the Location header."""
    made = http.post("/v1/sessions", json={})
    assert made.headers["location"].endswith(good(made, 201)["session_id"])


def test_looking_makes_no_session(http: httpx.Client, fleet: Fleet) -> None:
    """GET creates no key in the store."""
    problem(http.get("/v1/sessions/never-made"), 404, "NotFound")
    good(http.get("/v1/sessions/never-made/state"))
    good(http.get("/v1/sessions/never-made/messages"))
    problem(http.post("/v1/sessions/never-made/fork"), 404, "NotFound")
    with fleet.server.client() as store:
        assert [*store.scan_iter("*never-made*", count=1000)] == []


@pytest.mark.parametrize("anew", [False, True])
def test_a_turn_stays_its_users_when_its_session_expired(http: httpx.Client, anew: bool) -> None:
    """Its record exists for days: not for others, nor for a new owner of a session with that id."""
    session, bob = f"short-{anew}".lower(), {"X-User-ID": "bob"}
    body = {"message": "SAY secret", "session_ttl": 0.2}
    turn = http.post(f"/v1/sessions/{session}/turns", json=body, headers={**ALICE, "Prefer": "wait=30"})
    assert good(turn)["result"] == "secret"
    path = turn.headers["location"]
    wait_until(lambda: http.get(f"/v1/sessions/{session}").status_code == 410, description="it expired")
    if anew:
        good(http.post("/v1/sessions", json={"session_id": session}, headers=bob), 201)
    for asked in (path, f"{path}/events", f"{path}/approvals"):
        problem(http.get(asked, headers=bob), 403, "SessionOwnerError")
    problem(http.post(f"{path}/cancel", headers=bob), 403, "SessionOwnerError")
    if not anew:
        assert good(http.get(path, headers=ALICE))["result"] == "secret"


def test_an_expired_session_is_gone_not_missing(http: httpx.Client) -> None:
    """410 says that the session existed."""
    good(http.post("/v1/sessions", json={"session_id": "brief", "ttl": 0.5}), 201)
    wait_until(lambda: http.get("/v1/sessions/brief").status_code != 200, description="it expired")
    problem(http.get("/v1/sessions/brief"), 410, "SessionExpired")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/sessions"),
        ("GET", "/v1/sessions/{id}"),
        ("DELETE", "/v1/sessions/{id}"),
        ("GET", "/v1/sessions/{id}/messages"),
        ("POST", "/v1/sessions/{id}/fork"),
        ("GET", "/v1/sessions/{id}/state"),
        ("GET", "/v1/sessions/{id}/state/secret"),
        ("PUT", "/v1/sessions/{id}/state/secret"),
        ("PATCH", "/v1/sessions/{id}/state"),
        ("DELETE", "/v1/sessions/{id}/state/secret"),
        ("POST", "/v1/sessions/{id}/state/secret/increment"),
        ("GET", "/v1/sessions/{id}/checkpoints"),
        ("POST", "/v1/sessions/{id}/checkpoints"),
        ("POST", "/v1/sessions/{id}/checkpoints/restore"),
        ("POST", "/v1/sessions/{id}/turns"),
        ("GET", "/v1/sessions/{id}/turns"),
        ("GET", "/v1/sessions/{id}/stream"),
        ("GET", "/v1/sessions/{id}/turns/{turn}"),
        ("GET", "/v1/sessions/{id}/turns/{turn}/events"),
        ("POST", "/v1/sessions/{id}/turns/{turn}/cancel"),
        ("GET", "/v1/sessions/{id}/turns/{turn}/approvals"),
        ("POST", "/v1/sessions/{id}/turns/{turn}/approvals/call1"),
    ],
)
def test_nobody_reaches_the_session_of_another_user(http: httpx.Client, method: str, path: str) -> None:
    """Every route answers 403, and nothing changes (P8)."""
    alices = "of-alice"
    good(http.put(f"/v1/sessions/{alices}/state/secret", json={"value": 7}, headers=ALICE))
    bodies = {
        "/v1/sessions": {"session_id": alices},
        "/v1/sessions/{id}/state/secret": {"value": 8},
        "/v1/sessions/{id}/state": {"values": {"secret": 8}},
        "/v1/sessions/{id}/turns": {"message": "hello"},
        "/v1/sessions/{id}/turns/{turn}/approvals/call1": {"action": "approve"},
    }
    url = path.format(id=alices, turn=f"{alices}~{'0' * 32}")
    body = bodies.get(path) if method in ("POST", "PUT", "PATCH") else None
    problem(http.request(method, url, json=body, headers={"X-User-ID": "bob"}), 403, "SessionOwnerError")
    assert good(http.get(f"/v1/sessions/{alices}/state/secret", headers=ALICE))["value"] == 7


def test_the_transcript_comes_in_pages(http: httpx.Client) -> None:
    """`cursor` leads from one page to the next, and is null at the end."""
    for text in ("one", "two", "three"):
        turn = http.post("/v1/sessions/pages/turns", json={"message": f"SAY {text}"}, headers={"Prefer": "wait=20"})
        assert good(turn)["result"] == text
    first = good(http.get("/v1/sessions/pages/messages", params={"limit": 2}))
    assert [m["text"] for m in first["messages"] if m["role"] == "assistant"] == ["one", "two"]
    rest = good(http.get("/v1/sessions/pages/messages", params={"limit": 2, "cursor": first["cursor"]}))
    assert [m["text"] for m in rest["messages"] if m["role"] == "assistant"] == ["three"]
    assert rest["cursor"] is None
    newest = good(http.get("/v1/sessions/pages/messages", params={"limit": 1, "order": "newest"}))
    assert newest["messages"][-1]["text"] == "three"
    problem(http.get("/v1/sessions/pages/messages", params={"limit": 0}), 422)


def test_a_session_is_forked_at_a_turn(http: httpx.Client) -> None:
    """The copy has the history up to that turn; a taken id is 409, an unknown turn 404."""
    turns = [
        good(http.post("/v1/sessions/origin/turns", json={"message": f"SAY {n}"}, headers={"Prefer": "wait=20"}))["id"]
        for n in (1, 2)
    ]
    forked = http.post("/v1/sessions/origin/fork", json={"session_id": "forked", "at": turns[0]})
    assert good(forked, 201)["turns"] == 1
    assert forked.headers["location"] == "/v1/sessions/forked"
    problem(http.post("/v1/sessions/origin/fork", json={"session_id": "forked"}), 409, "SessionExists")
    unknown = {"at": f"origin~{'0' * 32}"}
    problem(http.post("/v1/sessions/origin/fork", json=unknown), 404, "TurnNotFound")


def test_state_is_set_read_and_removed(http: httpx.Client) -> None:
    """One value, several, a sum, and a swap that finds another value."""
    base = "/v1/sessions/stateful/state"
    assert good(http.put(f"{base}/step", json={"value": [1, {"a": None}]}))["value"] == [1, {"a": None}]
    assert good(http.patch(base, json={"values": {"n": 40, "step": 2}}))["state"] == {"n": 40, "step": 2}
    assert good(http.post(f"{base}/n/increment", json={"amount": 2}))["value"] == 42
    assert good(http.post(f"{base}/fresh/increment"))["value"] == 1
    assert good(http.put(f"{base}/step", json={"value": 3, "expected": 2})) == {"key": "step", "value": 3}
    problem(http.put(f"{base}/step", json={"value": 4, "expected": 2}), 409, "StateConflict")
    problem(http.put(f"{base}/step", json={"value": 4, "expected": None}), 409, "StateConflict")
    problem(http.post(f"{base}/words/increment", json={"amount": "two"}), 422)
    assert http.delete(f"{base}/step").status_code == 204
    problem(http.get(f"{base}/step"), 404, "NotFound")


@pytest.mark.parametrize("session_id", ["C024/1355.000005", "+49|Ж%2F"])
def test_a_session_id_may_have_any_visible_character(
    http: httpx.Client, gateway_process: GatewayProcess, fleet: Fleet, session_id: str
) -> None:
    """Over HTTP, with a remote session and locally it is the same session, and its turns are found."""
    body = {"message": "SAY hello", "session_id": session_id}
    assert good(http.post("/agent", json=body))["session_id"] == session_id
    path = f"/v1/sessions/{quote(session_id, safe='')}"
    turn = http.post(f"{path}/turns", json={"message": "SAY again"}, headers={"Prefer": "wait=30"})
    assert good(turn)["result"] == "again"
    assert good(http.get(turn.headers["location"]))["id"] == turn.json()["id"]
    assert '"text":"again"' in http.get(f"{turn.headers['location']}/events").text
    remote = Session(session_id, agent_url=f"{gateway_process.url}/agent")
    assert remote.turn(turn.json()["id"]).result(timeout=30) == "again"
    assert remote.chat("SAY more") == "more"
    operation = remote.submit_knowledge("Trains leave at noon.", name="a/b.txt")
    assert remote.operation(operation.id).cancel()
    here = fleet.session(session_id)
    assert [message.text for message in here.history() if message.role == "assistant"] == ["hello", "again", "more"]
    assert here.turn(turn.json()["id"]).result() == "again"


def test_what_is_no_json_is_refused(http: httpx.Client) -> None:
    """NaN, what a float cannot hold, and what is nested too deeply to be written again."""
    json_type = {"Content-Type": "application/json"}
    for value in ("NaN", "-Infinity", "1e999", "[" * 200 + "]" * 200, "1" * 5000, '"\udcff"'):
        raw = f'{{"value": {value}}}'.encode("utf-8", "surrogateescape")
        said = http.put("/v1/sessions/strict/state/n", content=raw, headers=json_type)
        problem(said, 422, "BadRequest")
    problem(http.get("/v1/sessions/strict/state/%FF"), 422, "BadRequest")
    problem(http.get("/v1/sessions/a%00b"), 422, "InvalidSessionId")


def test_state_goes_back_to_a_checkpoint(http: httpx.Client) -> None:
    """Numbers are listed; without a number nothing changes; one that is not there is 404."""
    base = "/v1/sessions/saved"
    problem(http.post(f"{base}/checkpoints/restore"), 404, "StateNotFoundError")
    assert good(http.post(f"{base}/checkpoints", json={"values": {"step": 1}}), 201) == {"checkpoint": 1}
    good(http.put(f"{base}/state/step", json={"value": 2}))
    assert good(http.post(f"{base}/checkpoints"), 201) == {"checkpoint": 2}
    assert good(http.get(f"{base}/checkpoints")) == {"checkpoints": [1, 2]}
    assert good(http.post(f"{base}/checkpoints/restore"))["state"] == {"step": 2}
    assert good(http.post(f"{base}/checkpoints/1/restore"))["state"] == {"step": 1}
    problem(http.post(f"{base}/checkpoints/9/restore"), 404, "StateNotFoundError")


def test_a_call_waits_for_a_decision(http: httpx.Client) -> None:
    """It is listed and answered, and the turn continues; what it does not wait for is 404."""
    agent = {"name": "Cashier", "tools": ["refund"]}
    sent = http.post("/v1/sessions/shop/turns", json={"message": 'CALL refund({"amount": 3})', "agent": agent})
    path = sent.headers["location"]
    calls = wait_until(
        lambda: good(http.get(f"{path}/approvals"))["approvals"], description="the call waits", timeout=30
    )
    assert (calls[0]["tool"], calls[0]["args"], calls[0]["kind"]) == ("refund", {"amount": 3}, "approval")
    call = f"{path}/approvals/{calls[0]['call_id']}"
    problem(http.post(f"{path}/approvals/none", json={"action": "approve"}), 404, "CallNotFound")
    problem(http.post(call, json={"action": "provide", "result": 1}), 422, "BadRequest")
    assert http.post(call, json={"action": "deny", "reason": "too much"}).status_code == 204
    ended = good(http.get(path, headers={"Prefer": "wait=20"}))
    assert "too much" in ended["result"]


def test_a_turn_is_followed_and_taken_up_again(http: httpx.Client) -> None:
    """`id:` is the cursor for Last-Event-ID; after the last one comes 204, beyond the end 409."""
    sent = http.post("/v1/sessions/told/turns", json={"message": "SAY a b c", "stream": True})
    assert sent.status_code == 202
    events = f"{sent.headers['location']}/events"
    with http.stream("GET", events) as stream:
        seen = list(sent_events(stream.iter_lines()))
    assert (seen[0].type, seen[-1].type) == ("started", "ended")
    with http.stream("GET", events, headers={"Last-Event-ID": str(seen[0].id)}) as stream:
        assert [event.id for event in sent_events(stream.iter_lines())] == [event.id for event in seen[1:]]
    assert http.get(events, params={"after": seen[-1].id}).status_code == 204
    problem(http.get(events, params={"after": "999-9"}), 409, "StaleCursor")
    problem(http.get(f"/v1/sessions/told/turns/told~{'0' * 32}/events"), 404, "TurnNotFound")


def test_a_busy_session_refuses_as_it_was_told(http: httpx.Client) -> None:
    """With `reject` it is a conflict: waiting for the response would not help."""
    http.post("/v1/sessions/busy/turns", json={"message": "SLEEP 5"})
    refused = http.post("/v1/sessions/busy/turns", json={"message": "hi", "policy": "reject"})
    problem(refused, 409, "SessionBusy")
    interrupting = {"message": "SAY me", "policy": "interrupt"}
    assert (
        good(http.post("/v1/sessions/busy/turns", json=interrupting, headers={"Prefer": "wait=20"}))["result"] == "me"
    )


def test_the_same_key_is_the_same_turn(http: httpx.Client, fleet: Fleet) -> None:
    """Also where no session was named; another message under it is a conflict."""
    for path, session in (("/agent", "keyed"), ("/agent", None), ("/agent/clerk", None)):
        key = {"Idempotency-Key": f"{path} {session}"}
        body = {"message": f"SAY {path} {session}"} | ({} if session is None else {"session_id": session})
        first, again = (good(http.post(path, json=body, headers=key)) for _ in range(2))
        assert first["metadata"]["turn_id"] == again["metadata"]["turn_id"]
        assert len(fleet.ledger("model", prompt=body["message"])) == 1
        problem(http.post(path, json={**body, "message": "SAY other"}, headers=key), 409, "IdempotencyConflict")


def test_what_a_provider_said_stays_with_the_turn(http: httpx.Client) -> None:
    """502 names the class and the turn; callers that may read the turn find the rest there."""
    failed = http.post("/agent", json={"message": "FAIL 400 9", "session_id": "refused"})
    said = problem(failed, 502, "ModelError")["detail"]
    turn = said.split("'")[1]
    assert said == f"turn {turn!r}: The model's provider refused the request permanently. Its resource says why."
    assert "400" in good(http.get(f"/v1/sessions/refused/turns/{turn}"))["error"]["message"]


def test_a_name_of_the_default_agent_is_as_good_as_another(http: httpx.Client) -> None:
    """A client that spells `assistant` otherwise when it tries again finds its turn."""
    key, body = {"Idempotency-Key": "spelled"}, {"message": "SAY spelled"}
    paths = ("/agent", "/agent/assistant", "/agent/ASSISTANT", "/agent/")
    turns = {good(http.post(path, json=body, headers=key))["metadata"]["turn_id"] for path in paths}
    assert len(turns) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/sessions/half/turns", {"message": "x", "agent": {"name": "A", "instructions": "HALF"}}),
        ("/v1/sessions/half/turns", {"message": "x", "agent": {"name": "HALF"}}),
        ("/v1/sessions/half/knowledge", {"text": "x", "metadata": {"k": "HALF"}}),
        ("/v1/sessions/half/knowledge/search", {"query": "x", "filters": {"k": "HALF"}}),
        ("/v1/sessions/half/knowledge/search", {"query": "x", "sources": ["HALF"]}),
        ("/v1/sessions/half/turns/half~" + 32 * "0" + "/approvals/c", {"action": "deny", "reason": "HALF"}),
    ],
    ids=range(6),
)
def test_half_a_surrogate_pair_is_no_text(http: httpx.Client, path: str, body: dict[str, object]) -> None:
    """JSON can write what UTF-8 cannot: it is refused, and the gateway does not break on it."""
    escaped = json.dumps(body).replace("HALF", "\\ud800")
    problem(http.post(path, content=escaped, headers={"Content-Type": "application/json"}), 422)


def test_head_and_methods_that_are_not_there(http: httpx.Client) -> None:
    """HEAD answers like GET without a body; 405 lists the methods of a path."""
    head = http.head("/v1/sessions/none/state")
    assert (head.status_code, head.content) == (200, b"")
    refused = http.patch("/v1/sessions/none/state/key", json={})
    problem(refused, 405)
    assert refused.headers["allow"] == "DELETE, GET, HEAD, PUT"
    problem(http.get("/v2"), 404)


def test_a_sessions_maker_and_checkpoints_in_python(fleet: Fleet) -> None:
    """`create` says whether it made the session, and `checkpoints` lists them."""
    session = Session("made-in-python", "alice", settings=fleet.settings, ttl=60)
    assert session.create()
    assert not session.create()
    assert session.time_to_expiry() is not None
    assert session.checkpoints() == []
    session.save_state()
    assert session.checkpoints() == [1]
    with pytest.raises(PermissionError):
        Session("made-in-python", "bob", settings=fleet.settings).create()
