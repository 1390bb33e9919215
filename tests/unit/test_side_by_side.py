"""The tests are spread over processes as they are meant to be."""

from __future__ import annotations

from pathlib import Path

from tests.support.side_by_side import LONGEST, ROOT, scope_of


def test_every_file_that_begins_first_exists() -> None:
    """A renamed file would no longer begin first."""
    assert [name for name in LONGEST if not (ROOT / "tests" / name).exists()] == []


def test_a_file_shares_its_process_with_those_that_use_the_same_fleet() -> None:
    """And with no other: three processes of the suite start the fleet of the session."""
    files = [str(path.relative_to(ROOT)) for path in Path(ROOT, "tests").rglob("test_*.py")]
    shared = {scope_of(path) for path in files} - set(files)
    assert shared == {"fleet 0", "fleet 1", "fleet 2"}
    assert scope_of("tests/integration/test_approvals.py") in shared
    assert scope_of("tests/integration/test_webhooks.py") == "tests/integration/test_webhooks.py"
