"""`sessionfleet knowledge` and `memory` as a person types them: in a terminal, in a pipe, interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from broker_config.settings import load_settings
from sessions.cli import main as cli
from sessions.errors import BadRequest, MissingExtra, StoreUnavailable
from tests.integration.test_cli_on_a_fleet import CLI, Typist, environment
from tests.support import preloaded
from tests.support.documents import make_pdf
from tests.support.fleet import Fleet
from tests.support.transcripts import settled
from tests.support.waiting import wait_until

HOLIDAYS = "Each employee has 28 days of paid holiday in a year."
PARKING = "Bicycles are parked by the canteen."


def name(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:10]}"


def run(fleet: Fleet, *command: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(
        [*CLI, *command], env=environment(fleet.server.url, **more), cwd=cwd, timeout=90,
    )  # fmt: skip


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """A folder with two good documents and a bad one."""
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "rules.pdf").write_bytes(make_pdf([HOLIDAYS, PARKING]))
    (folder / "notes.md").write_text(f"# Cars\n\n{PARKING}\n")
    (folder / "cut.pdf").write_bytes(make_pdf([HOLIDAYS])[:200])
    return folder


def test_documents_are_added_listed_searched_and_removed(fleet: Fleet, papers: Path) -> None:
    """Tables on stdout, errors on stderr, and a status that scripts can go by."""
    base = name("base")
    added = run(fleet, "knowledge", "add", "rules.pdf", "cut.pdf", "no.md", "notes.md", "--base", base, cwd=papers)
    assert added.returncode == 1
    assert [line.split()[:2] for line in added.stdout.splitlines()[1:]] == [
        ["rules.pdf", "added"],
        ["notes.md", "added"],
    ]
    cut, missing = added.stderr.splitlines()
    assert cut.startswith("error: cut.pdf: ")
    assert missing == "error: no.md: there is no file 'no.md'"

    listed = run(fleet, "knowledge", "list", "--base", base)
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == ["notes.md", "rules.pdf"]
    found = run(fleet, "knowledge", "search", "vacation", "--base", base, "--limit", "1")
    assert found.stdout.splitlines()[0] == "1. rules.pdf, page 1"
    assert HOLIDAYS in found.stdout

    assert run(fleet, "knowledge", "delete", "rules.pdf", "--base", base).stdout == "rules.pdf removed (1 chunk)\n"
    again = run(fleet, "knowledge", "delete", "rules.pdf", "--base", base)
    assert (again.returncode, again.stderr.count("error: there is no document 'rules.pdf'")) == (1, 1)
    assert run(fleet, "knowledge", "clear", "--base", base, "--yes").stdout == "1 chunk removed\n"
    assert run(fleet, "knowledge", "list", "--base", base).stdout.startswith("nothing was added")


def test_a_folder_is_added_and_added_again(fleet: Fleet, papers: Path) -> None:
    """Files of one name in two folders stay apart; the second time, only what was changed is done."""
    base = name("folder")
    (papers / "sub").mkdir()
    for number in range(8):
        (papers / f"n{number}.txt").write_text(f"{PARKING} {number}")
    (papers / "sub" / "n0.txt").write_text(HOLIDAYS)
    (papers / "sub" / "n1.txt").write_text(f"{PARKING} 1")
    (papers / "photo.png").write_bytes(b"png")
    added = run(fleet, "knowledge", "add", "papers", "--base", base, cwd=papers.parent)
    assert added.returncode == 1
    rows = [line.split() for line in added.stdout.splitlines()]
    assert rows[0][-3:] == ["same", "content", "as"]
    assert {row[0]: row[1] for row in rows[1:]} == {
        "notes.md": "added", "rules.pdf": "added", "sub/n0.txt": "added", "sub/n1.txt": "duplicate",
        **{f"n{number}.txt": "added" for number in range(8)},
    }  # fmt: skip
    skipped, error, counts = added.stderr.splitlines()
    assert skipped == "skipped, not a kind of document: photo.png"
    assert error.startswith("error: cut.pdf: is truncated")
    assert counts == "14 files: 11 added, 1 duplicate, 1 skipped, 1 failed"

    (papers / "cut.pdf").unlink()
    (papers / "n3.txt").write_text(HOLIDAYS + " At least.")
    again = run(fleet, "knowledge", "add", str(papers), "--base", base)
    assert again.returncode == 0
    assert [line.split()[:2] for line in again.stdout.splitlines()[1:]] == [["n3.txt", "replaced"]]
    assert again.stderr.splitlines()[-1] == "13 files: 1 replaced, 11 unchanged, 1 skipped"
    reader = fleet.session(knowledge=base)
    receipts = reader.add_knowledge(papers)
    assert isinstance(receipts, list)
    assert [r["source"] for r in receipts if r["status"] == "skipped"] == ["photo.png"]
    assert {r["status"] for r in receipts} == {"unchanged", "skipped"}
    with pytest.raises(BadRequest, match="is for one document"):
        reader.add_knowledge([papers / "n1.txt", papers / "n2.txt"], name="n")
    assert reader.clear_knowledge() == 12


def test_programs_get_json(fleet: Fleet, papers: Path) -> None:
    """stdout has one JSON document, which also lists the failures."""
    session = name("json")
    more = ("--session", session, "--metadata", '{"year": 2024}', "--json")
    added = run(fleet, "knowledge", "add", "rules.pdf", "cut.pdf", *more, cwd=papers)
    good, bad = json.loads(added.stdout)
    assert (good["status"], good["pages"], bad["status"]) == ("added", 2, "failed")
    assert "error" in bad
    assert added.returncode == 1
    found = json.loads(run(fleet, "knowledge", "search", "vacation", "--session", session, "--json").stdout)
    assert found[0]["metadata"] == {"year": 2024}
    wrong = run(fleet, "knowledge", "add", "rules.pdf", "--session", session, "--metadata", "[1]", cwd=papers)
    assert wrong.stderr == "error: --metadata '[1]': use a JSON object\n"
    fleet.session(session).delete()


def test_a_terminal_shows_pages_then_chunks(fleet: Fleet, papers: Path) -> None:
    """Each document has a line, which ends with what became of it."""
    base = name("bar")
    terminal = Typist(
        [*CLI, "knowledge", "add", str(papers / "rules.pdf"), "--base", base],
        environment(fleet.server.url, COLUMNS="100"), term="xterm",
    )  # fmt: skip
    try:
        terminal.sees("added: 2 pages, 1 chunk")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()
    assert fleet.session(knowledge=base).clear_knowledge() == 1


def written(fleet: Fleet, base: str) -> bool:
    """Whether the journal of a document on its way into a base has batches that were written."""
    with fleet.server.client() as client:
        journals = [key for key in client.scan_iter("*:journal", count=1000) if base.encode() in key]
        return any(field.startswith(b"batch:") for key in journals for field in client.hkeys(key))


def test_ctrl_c_cancels_a_document_and_leaves_nothing_of_it(fleet: Fleet, papers: Path) -> None:
    """Documents that were already added stay and are shown; the command ends when the rest is removed."""
    base = name("cancelled")
    pages = [f"Page {n}. " + " ".join(f"word{n}x{i} about matter {i}" for i in range(150)) for n in range(120)]
    (papers / "book.pdf").write_bytes(make_pdf(pages))
    command = [*CLI, "knowledge", "add", "notes.md", "book.pdf", "rules.pdf", "--base", base]
    reader = fleet.session(knowledge=base)

    with subprocess.Popen(
        command,
        env=environment(fleet.server.url),
        cwd=papers,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as adding:
        wait_until(reader.list_knowledge, description="the first document is there", timeout=60)
        wait_until(lambda: written(fleet, base), description="chunks of the book are written", timeout=60)
        adding.send_signal(signal.SIGINT)
        said, errors = adding.communicate(timeout=60)
    assert adding.returncode == 130
    assert [line.split()[0] for line in said.splitlines()[1:]] == ["notes.md"]
    assert errors == "error: cancelled; not added: 'book.pdf', 'rules.pdf'. Whatever was written of them is removed\n"
    assert [document["source"] for document in reader.list_knowledge()] == ["notes.md"]
    assert {passage["source"] for passage in reader.search_knowledge("matter word3x3", limit=50, min_score=0)} == {
        "notes.md"
    }
    assert reader.clear_knowledge() == 1


def test_memories_are_added_listed_searched_and_forgotten(fleet: Fleet) -> None:
    """Of a user, and of a session; naming a user leaves no session behind."""
    user, session = name("user"), name("mem")
    prefers = run(fleet, "memory", "add", "Prefers tea", "--user", user).stdout.strip()
    run(fleet, "memory", "add", "Comes on Friday", "--session", session, "--user", user, "--type", "short")
    listed = run(fleet, "memory", "list", "--user", user)
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [prefers]
    both = json.loads(
        run(fleet, "memory", "search", "preferences", "--session", session, "--user", user, "--json").stdout
    )
    assert (both[0]["text"], both[0]["scope"]) == ("Prefers tea", "user")
    own = json.loads(run(fleet, "memory", "list", "--session", session, "--json").stdout)
    assert [memory["text"] for memory in own["memories"]] == ["Comes on Friday"]
    refused = run(fleet, "memory", "list", "--session", session, "--user", "mallory")
    assert (refused.returncode, refused.stderr.count("error: ")) == (1, 1)

    changed = run(fleet, "memory", "update", prefers, "Prefers coffee", "--metadata", '{"year": 2026}', "--user", user)
    assert changed.stdout == f"memory {prefers} changed (version 2)\n"
    filters = ("--filters", '{"year": {"$gt": 2025}}', "--json")
    found = json.loads(run(fleet, "memory", "search", "drinks", "--user", user, *filters).stdout)
    assert [(memory["text"], memory["version"]) for memory in found] == [("Prefers coffee", 2)]
    unknown = run(fleet, "memory", "search", "drinks", "--user", user, "--filters", '{"year": {"$near": 1}}')
    assert "'$near' of 'year' is no operator" in unknown.stderr
    assert run(fleet, "memory", "update", "nothing", "x", "--user", user).returncode == 1

    assert run(fleet, "memory", "delete", prefers, "--user", user).stdout == f"memory {prefers} deleted\n"
    assert run(fleet, "memory", "delete", prefers, "--user", user).returncode == 1
    assert run(fleet, "memory", "clear", "--session", session, "--yes").stdout == "1 memory deleted\n"
    with fleet.server.client() as client:
        lasting = [
            key for key in client.scan_iter("sf:v1:*:meta", count=1000) if client.hget(key, "owner") == user.encode()
        ]
        assert [key for key in lasting if client.ttl(key) == -1 and session.encode() not in key] == []
    fleet.session(session).delete()


def test_whose_must_be_said(fleet: Fleet) -> None:
    """The error lists the options that say whose data is meant, in one line."""
    assert run(fleet, "memory", "list").stderr == "error: whose memory? use --session ID or --user USER\n"
    asked = run(fleet, "knowledge", "search", "x")
    assert asked.stderr == "error: whose knowledge? use --session ID, --base NAME or --user USER\n"


def test_looking_at_documents_and_memories_starts_no_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading commands start no fleet, as with turns and workers."""
    from typer.testing import CliRunner

    monkeypatch.delenv("SESSIONFLEET_AUTOSTART")
    monkeypatch.setenv("SESSIONFLEET_HOME", str(tmp_path / "home"))
    load_settings.cache_clear()
    try:
        for command in (["knowledge", "list", "--base", "b"], ["memory", "list", "--user", "u"]):
            assert isinstance(CliRunner().invoke(cli.app, command).exception, StoreUnavailable)
    finally:
        load_settings.cache_clear()
    assert not (tmp_path / "home").exists()


def test_the_index_moves_to_another_home(new_fleet: Callable[..., Fleet], papers: Path) -> None:
    """Exported while no worker owns it, imported elsewhere with its vectors; while one does, the owner is named."""
    fleet = new_fleet()
    worker = fleet.start("owner")
    fleet.ready()
    here, there = str(fleet.folder / "home"), str(fleet.folder / "other")
    assert run(fleet, "knowledge", "add", "rules.pdf", "notes.md", "--base", "moved", cwd=papers).returncode == 0
    busy = run(fleet, "knowledge", "export", "out.jsonl", cwd=papers, SESSIONFLEET_HOME=here)
    assert busy.returncode == 1
    assert f"is owned by process {worker.pid}" in busy.stderr
    worker.terminate()

    wrote = run(fleet, "knowledge", "export", "out.jsonl", cwd=papers, SESSIONFLEET_HOME=here)
    assert (wrote.returncode, wrote.stdout) == (0, "2 chunks written to 'out.jsonl'\n"), wrote.stderr
    assert sorted(path.name for path in papers.iterdir()) == ["cut.pdf", "notes.md", "out.jsonl", "rules.pdf"]
    read = run(fleet, "knowledge", "import", "out.jsonl", cwd=papers, SESSIONFLEET_HOME=there)
    assert (read.returncode, read.stdout) == (0, "2 chunks of 2 documents imported\n"), read.stderr
    again = run(fleet, "knowledge", "export", "again.jsonl", cwd=papers, SESSIONFLEET_HOME=there)
    assert again.stdout == "2 chunks written to 'again.jsonl'\n"
    assert sorted((papers / "out.jsonl").read_text().splitlines()) == sorted(
        (papers / "again.jsonl").read_text().splitlines()
    )


def test_what_is_no_export_is_refused(fleet: Fleet, papers: Path) -> None:
    """With the line; the same for a home without an index, and for a missing file."""
    (papers / "bad.jsonl").write_text('{"kind": "chunk"}\n')
    bad = run(fleet, "knowledge", "import", "bad.jsonl", cwd=papers, SESSIONFLEET_HOME=str(papers / "home"))
    assert (bad.returncode, bad.stderr.count("error: record 1 is not a record of an export")) == (1, 1)
    none = run(fleet, "knowledge", "export", "x.jsonl", cwd=papers, SESSIONFLEET_HOME=str(papers / "empty"))
    assert "error: there is no knowledge in" in none.stderr
    assert run(fleet, "knowledge", "import", "nowhere.jsonl", cwd=papers).returncode == 1


def test_moving_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web backend has no engine; the message says what to install."""
    from sessions.cli import knowledge

    monkeypatch.setattr(knowledge, "missing_for_retrieval", lambda: "qdrant_edge")
    with pytest.raises(MissingExtra, match="qdrant_edge is not installed"):
        knowledge.export_index(Path("x"))


def test_the_doctor_names_who_has_the_documents(fleet: Fleet) -> None:
    """One of the two workers, by the embedded index. One that was killed by another test is listed for a while."""
    owners = wait_until(
        lambda: found if len(found := [w.id for w in fleet.registered() if "retrieval" in w.queues]) == 1 else None,
        description="one worker serves retrieval",
    )
    checks = {check["name"]: check for check in json.loads(run(fleet, "doctor", "--json").stdout)}
    (owner,) = owners
    assert checks["retrieval"]["says"] == f"served by {owner}"
    assert checks["index"]["says"].startswith("embedded, home ")
    assert checks["index"]["verdict"] == checks["embedding"]["verdict"] == "ok"


def test_messages_are_found_on_the_command_line(fleet: Fleet) -> None:
    """In one session or in all of a user's; a session is made searchable there, too."""
    user, session_id = name("user"), name("chat")
    session = fleet.session(session_id, user_id=user)
    session.chat("SAY the kayak is red")
    refused = run(fleet, "sessions", "search", "kayak", "--session", session_id)
    assert refused.returncode == 1
    assert "is not searchable" in refused.stderr
    assert run(fleet, "sessions", "searchable", session_id).stdout == f"session '{session_id}' is now searchable\n"
    settled(fleet, session)
    for where in (("--session", session_id), ("--user", user)):
        shown = run(fleet, "sessions", "search", "kayak", *where, "--role", "assistant")
        assert shown.stdout.splitlines()[1].startswith(session_id)
        assert "the kayak is red" in shown.stdout
    found = json.loads(run(fleet, "sessions", "search", "kayak", "--user", user, "--json", "--since", "1h").stdout)
    assert {message["role"] for message in found} == {"user", "assistant"}
    nothing = run(fleet, "sessions", "search", "kayak", "--user", user, "--until", "1h")
    assert nothing.stdout == "nothing was found\n"
    assert run(fleet, "sessions", "search", "kayak").stderr.startswith("error: search where?")
    run(fleet, "sessions", "searchable", session_id, "--off")
    settled(fleet, session)
    assert session.delete()["passages"] == 0
