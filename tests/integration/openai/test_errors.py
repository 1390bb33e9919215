"""Errors on this protocol's paths have its form, also those of the layers in front of the routes."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from sessions.gateway.openai.ids import APPROVAL, CallRef, ResponseRef
from tests.support.gateway import GatewayProcess, made_key
from tests.support.servers import Server


@pytest.fixture
def gateway(secured_gateway: GatewayProcess) -> GatewayProcess:
    """Authentication is on there, and nobody runs turns; see `tests/conftest.py`."""
    return secured_gateway


def client_of(gateway: GatewayProcess, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=30)


def asked(client: openai.OpenAI, text: str = "hi", **options: Any) -> object:
    return client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": text}], **options)


def test_a_key_that_is_not_valid_is_401(gateway: GatewayProcess) -> None:
    """With the code that OpenAI's own service has for it."""
    with client_of(gateway, "sk-nothing") as client, pytest.raises(openai.AuthenticationError) as refused:
        client.models.list()
    assert (refused.value.type, refused.value.code) == ("invalid_request_error", "invalid_api_key")
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_a_right_that_is_missing_is_403(gateway: GatewayProcess, secured_store: Server) -> None:
    """Reading needs `read`, a message `write`, and to say how much a model thinks `configure`."""
    with client_of(gateway, made_key(secured_store, rights=("read",))) as client:
        assert client.models.retrieve("assistant").id == "assistant"
        with pytest.raises(openai.PermissionDeniedError, match="'write'"):
            asked(client)
    with (
        client_of(gateway, made_key(secured_store)) as client,
        pytest.raises(openai.PermissionDeniedError, match="'configure'"),
    ):
        asked(client, reasoning_effort="high")


def test_to_approve_needs_its_own_right(gateway: GatewayProcess, secured_store: Server) -> None:
    """Who may send messages may not decide about the agent's calls."""
    with client_of(gateway, made_key(secured_store)) as client:
        response = client.responses.create(model="assistant", input="hi", background=True)
        ref = ResponseRef.read(response.id)
        request = CallRef(ref.session_id, ref.turn_id, 0, "call1").written(APPROVAL)
        answer: Any = [{"type": "mcp_approval_response", "approval_request_id": request, "approve": True}]
        with pytest.raises(openai.PermissionDeniedError, match="'approve'"):
            client.responses.create(model="assistant", input=answer)


def test_another_users_session_is_403(gateway: GatewayProcess, secured_store: Server) -> None:
    """Sessions belong to users here, too, and tenants see nothing of each other."""
    keys = [made_key(secured_store, user=name) for name in ("ann", "bob")]
    session = {"X-Session-Id": "openai-of-ann"}
    headers = [{"Authorization": f"Bearer {key}", **session} for key in keys]
    body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    background = {"model": "assistant", "input": "hi", "background": True}
    with httpx.Client(base_url=gateway.url, trust_env=False) as http:
        with http.stream("POST", "/v1/chat/completions", json=body, headers=headers[0]) as begun:
            assert begun.status_code == 200
        refused = http.post("/v1/chat/completions", json=body, headers=headers[1])
        response = http.post("/v1/responses", json=background, headers=headers[0]).json()
        path = f"/v1/responses/{response['id']}"
        assert http.get(path, headers=headers[0]).json()["status"] == "queued"
        others = [http.get(path, headers=headers[1]), http.post(f"{path}/cancel", headers=headers[1])]
        follows = {**background, "previous_response_id": response["id"]}
        others.append(http.post("/v1/responses", json=follows, headers=headers[1]))
        mine = http.post("/v1/conversations", headers=headers[0]).json()["id"]
        others += [
            http.request(method, f"/v1/conversations/{mine}", headers=headers[1]) for method in ("GET", "DELETE")
        ]
        others.append(http.get(f"/v1/conversations/{mine}/items", headers=headers[1]))
    for answer in (refused, *others):
        assert answer.status_code == 403
        assert answer.json()["error"]["type"] == "permission_error"


def test_a_body_that_is_too_large_is_413(gateway: GatewayProcess, secured_store: Server) -> None:
    """Before it was read."""
    with client_of(gateway, made_key(secured_store)) as client, pytest.raises(openai.APIStatusError) as refused:
        asked(client, "x" * 200_000)
    assert (refused.value.status_code, refused.value.code) == (413, "request_too_large")


def test_a_rate_that_is_exceeded_is_429(gateway: GatewayProcess, secured_store: Server) -> None:
    """With the seconds to wait, after which the client repeats the request by itself."""
    with client_of(gateway, made_key(secured_store, rate=1)) as client:
        client.models.list()
        with pytest.raises(openai.RateLimitError) as refused:
            client.models.list()
    assert (refused.value.type, refused.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert int(refused.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models/x", 405),
        ("GET", "/v1/chat/completions/x", 404),
    ],
)
def test_paths_that_do_not_exist(gateway_process: GatewayProcess, method: str, path: str, status: int) -> None:
    """In the same form."""
    with gateway_process.client() as http:
        answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_no_json(gateway_process: GatewayProcess) -> None:
    """400, as every request that cannot be read."""
    with gateway_process.client() as http:
        answer = http.post("/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
