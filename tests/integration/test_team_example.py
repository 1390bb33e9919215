"""`examples/team.py`, as a reader runs it, against two worker processes with the offline model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.integration.test_examples import EXAMPLES, run
from tests.support.fleet import ROOT, Fleet, running_fleet
from tests.support.servers import Server, running


@pytest.fixture
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("team")
    environment = {"SESSIONFLEET_MODEL": "offline", "SESSIONFLEET_IMPORTS": "", "PYTHONPATH": str(ROOT)}
    with (
        running(Server(folder / "server")) as server,
        running_fleet(folder, server, environment, workers=("one", "two")) as fleet,
    ):
        yield fleet


def test_the_example_of_teams(offline: Fleet) -> None:
    """Sequential in a session, parallel, and with a manager; a second process knows the session and the run."""
    said = run(offline, EXAMPLES / "team.py")
    assert said.startswith("Starting new session\n")
    assert "said so far: 6" in said
    order = re.findall(r"^task_(started|ended) (\w+)", said, re.M)
    assert order[-2:] == [("started", "summary"), ("ended", "summary")]
    assert {name for kind, name in order[:3] if kind == "started"} == {"Oslo", "Lima", "Kyoto"}
    assert "all of them: True | requests: 4" in said
    assert "facts was done by the Researcher\ntext was done by the Writer" in said

    again = re.search(r"^run (\S+)$", said, re.M)
    assert again is not None
    assert "offline model" in run(offline, EXAMPLES / "team.py", again[1])
    assert run(offline, EXAMPLES / "team.py").startswith("Restored previous session\n")
