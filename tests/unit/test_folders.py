"""The documents of a folder, and those of a list that would replace each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessions.client.arguments.folders import FolderFile, SameName, files_in, several


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with documents of equal names, and what is none."""
    folder = tmp_path / "papers"
    (folder / "sub" / ".cache").mkdir(parents=True)
    for name in ("a.md", "sub/a.md", ".hidden.md", "sub/.cache/b.md"):
        (folder / name).write_text("text")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "photo.png").write_bytes(b"x")
    (folder / "gone.md").symlink_to("nowhere.md")
    (folder / "sub" / "up").symlink_to("..")
    return folder


def test_a_folder_has_documents_and_what_is_skipped(folder: Path) -> None:
    """Names are paths in the folder; hidden files are not mentioned, and links to folders lead nowhere."""
    assert [(file.name, file.skipped) for file in files_in(folder)] == [
        ("a.md", ""), ("empty.txt", "empty"), ("gone.md", "a broken link"), ("photo.png", "not a kind of document"),
        ("sub/a.md", ""), ("sub/up", "a link to a folder"),
    ]  # fmt: skip


def test_no_document_of_a_list_replaces_another_one(folder: Path) -> None:
    """The second file of a name is an error that says what to do; the same file twice is not."""
    found = list(several([folder / "a.md", "a text", folder / "sub" / "a.md", folder / "a.md"]))
    assert found[:2] == [folder / "a.md", "a text"]
    assert isinstance(found[2], SameName)
    assert "add a folder that contains both" in str(found[2].error)
    assert found[3] == folder / "a.md"


def test_folders_of_a_list_become_their_files(folder: Path) -> None:
    """Two folders with a file of the same name, too."""
    found = list(several([folder, folder / "sub"]))
    assert [type(one) for one in found if getattr(one, "name", "") in ("a.md", "sub/a.md")] == [
        FolderFile, FolderFile, SameName,
    ]  # fmt: skip
