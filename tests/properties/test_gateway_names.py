"""Names in the gateway's paths: any text that can be a name arrives unchanged."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker_config.names import name_problem
from sessions.gateway.segments import segment
from tests.support.gateway import GatewayProcess
from tests.support.http import good, problem

PLENTY = settings(
    max_examples=int(os.environ.get("SF_PROPERTY_EXAMPLES", "30")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
JSON = {"Content-Type": "application/json"}
names = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("/%:?#.+ \\\n\r\t\0~é🚂"), min_size=1, max_size=40
)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@pytest.fixture(scope="module")
def http(gateway_process: GatewayProcess) -> Iterator[httpx.Client]:
    """A client for the gateway that tests share."""
    with gateway_process.client() as client:
        yield client


@PLENTY
@given(key=names.filter(lambda key: not key.startswith(("temp:", "user:", "app:"))), value=values)
@example(key="..", value=1)
@example(key="a/increment", value=2**70)
@example(key="a\n", value=1.0)
@example(key="%2F", value="\ud800")
def test_a_value_comes_back_under_its_key(http: httpx.Client, key: str, value: Any) -> None:
    """Set and read by path, and read among all: the same key, the same JSON."""
    path = f"/v1/sessions/names/state/{segment(key)}"
    wanted = json.dumps({"key": key, "value": value}, sort_keys=True)
    written = http.put(path, content=json.dumps({"value": value}), headers=JSON)
    assert json.dumps(good(written), sort_keys=True) == wanted
    assert json.dumps(good(http.get(path)), sort_keys=True) == wanted
    among_all = good(http.get("/v1/sessions/names/state"))["state"]
    assert json.dumps(among_all, sort_keys=True) == json.dumps({key: value}, sort_keys=True)
    assert http.delete(path).status_code == 204
    problem(http.get(path), 404)


@PLENTY
@given(session_id=names.filter(lambda name: name_problem(name, 256) is None))
@example(session_id="C024BE91L/1355517523.000005")
@example(session_id="a/turns")
@example(session_id="a%2Fstate")
@example(session_id="+49|?#")
def test_a_session_is_found_under_its_id(http: httpx.Client, session_id: str) -> None:
    """Made by body, looked at and deleted by path: '/' in an id never makes it the path of something else."""
    made = http.post("/v1/sessions", json={"session_id": session_id})
    assert good(made, 201)["session_id"] == session_id
    path = f"/v1/sessions/{segment(session_id)}"
    assert made.headers["location"] == path
    assert good(http.get(path))["session_id"] == session_id
    good(http.put(f"{path}/state/events", json={"value": session_id}))
    assert good(http.get(f"{path}/state"))["state"] == {"events": session_id}
    assert good(http.delete(path))["keys"] > 0
    problem(http.get(path), 404, "NotFound")


@PLENTY
@given(name=names)
@example(name="search")
def test_a_name_that_is_not_there_is_named(http: httpx.Client, name: str) -> None:
    """The error has the name that was asked for, and the store looked for exactly that name."""
    said = problem(http.get(f"/v1/sessions/names/memory/{segment(name)}"), 404, "NotFound")
    assert repr(name) in said["detail"]
