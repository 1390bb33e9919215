"""`sessionfleet schedules` on workers that run."""

from __future__ import annotations

import json
import uuid
from typing import Any

from tests.integration.test_cli_on_a_fleet import CLI, environment
from tests.support import preloaded
from tests.support.fleet import Fleet


def test_schedules_from_the_command_line(fleet: Fleet) -> None:
    """Add, list, show, pause, resume, trigger, delete; with --json for scripts, one line for people."""
    session_id, env = uuid.uuid4().hex, environment(fleet.server.url)

    def run(*arguments: str, fails: bool = False) -> str:
        done = preloaded.run([*CLI, "schedules", *arguments], env=env, timeout=60)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    def as_json(*arguments: str) -> Any:
        return json.loads(run(*arguments, "--json"))

    made = as_json("add", session_id, "0 0 29 2 *", "SAY hi", "--timezone", "Europe/Berlin", "--id", "leap")
    assert (made["schedule_id"], made["next_run_at"]) == ("leap", "2028-02-28T23:00:00+00:00")
    assert "fields" in run("add", session_id, "0 0", "SAY hi", fails=True)
    assert "leap" in run("list", session_id)
    shown = as_json("show", session_id, "leap", "--runs", "2")
    assert shown["next_runs"] == ["2028-02-28T23:00:00+00:00", "2032-02-28T23:00:00+00:00"]
    assert "paused" in run("pause", session_id, "leap")
    assert as_json("resume", session_id, "leap")["paused"] is False
    turn = fleet.session(session_id).turn(as_json("trigger", session_id, "leap")["turn"])
    assert turn.result(timeout=30)
    (listed,) = as_json("list", session_id)
    assert (listed["runs"], listed["last_status"]) == (1, "succeeded")
    assert as_json("delete", session_id, "leap", "--yes") == {"deleted": True}
    assert "no schedules" in run("list", session_id)
    assert "no schedule" in run("pause", session_id, "leap", fails=True)


def test_turns_show_when_they_begin(fleet: Fleet) -> None:
    """`turns list` and `turns show` have the time of a scheduled turn."""
    session, env = fleet.session(), environment(fleet.server.url)
    turn = session.Agent("A", instructions="x").submit("SAY later", not_before=3600)
    for arguments in (["list", session.session_id, "--json"], ["show", turn.id, "--json"]):
        done = preloaded.run([*CLI, "turns", *arguments], env=env, timeout=60)
        found = json.loads(done.stdout)
        shown = found[0] if isinstance(found, list) else found
        assert shown["status"] == "queued"
        assert shown["not_before"] > shown["accepted"]
    listed = preloaded.run([*CLI, "turns", "list", session.session_id], env=env, timeout=60)
    assert "not_before" in listed.stdout
    turn.cancel()
