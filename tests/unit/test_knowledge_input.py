"""What `knowledge=`, `memory=` and `add_knowledge` take, and how they refuse the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessions.client.arguments.documents import read_source
from sessions.client.arguments.retrieval import KnowledgeConfig, MemoryConfig, knowledge_config, memory_config
from sessions.errors import BadRequest, DocumentEmpty, DocumentTooLarge

LIMIT = 1000


def test_the_documents_knowledge_configuration_names_a_collection() -> None:
    """The provider chroma is accepted, with one warning that documents are stored in Qdrant; its path is ignored."""
    given = {"vector_store": {"provider": "chroma", "config": {"collection_name": "docs", "path": ".sessions/k"}}}
    with pytest.warns(UserWarning, match="documents are stored in Qdrant") as caught:
        config = knowledge_config(given)
    assert len(caught) == 1
    assert config == KnowledgeConfig(on=True, collection="docs")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, KnowledgeConfig()),
        (False, KnowledgeConfig()),
        (True, KnowledgeConfig(on=True)),
        ("handbook", KnowledgeConfig(on=True, bases=("handbook",))),
        (["a", "b"], KnowledgeConfig(on=True, bases=("a", "b"))),
        ({"scope": "user"}, KnowledgeConfig(on=True, scope="user")),
        ({"bases": "handbook"}, KnowledgeConfig(on=True, bases=("handbook",))),
    ],
)
def test_ways_to_say_which_knowledge(given: object, expected: KnowledgeConfig) -> None:
    """It can be a flag, a base, several bases or a dict."""
    assert knowledge_config(given) == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"vector_store": {"provider": "pinecone"}}, "'qdrant', 'chroma'"),
        ({"vektor_store": {}}, "use 'bases', 'scope', 'vector_store'"),
        ({"vector_store": {"config": {"collection_name": "a/b"}}}, "letters, digits"),
        ({"vector_store": {"config": {"collection_name": "../x"}}}, "letters, digits"),
        ("../x", "as folders"),
        ({"scope": "everyone"}, '"session" or "user"'),
        (7, "the name of a knowledge base"),
    ],
)
def test_knowledge_that_cannot_be(given: object, says: str) -> None:
    """Each error says what to give instead."""
    with pytest.raises(BadRequest, match=says):
        knowledge_config(given)


def test_praisonais_memory_configuration_is_accepted() -> None:
    """Keys that Sessionfleet does not use are ignored."""
    assert memory_config({"provider": "rag", "use_embedding": True}) == MemoryConfig(on=True)
    assert memory_config({"extract": True}) == MemoryConfig(on=True, extract=True)
    assert memory_config(True) == MemoryConfig(on=True)


def test_an_unknown_memory_provider_is_an_error_that_lists_the_known() -> None:
    """A memory that would silently not be kept is worse than an error."""
    with pytest.raises(BadRequest, match="'rag', 'redis'"):
        memory_config({"provider": "mem0"})


def test_a_path_is_read_here(tmp_path: Path) -> None:
    """The client reads the file, because the worker may be on another machine."""
    file = tmp_path / "notes.md"
    file.write_text("# Notes")
    for given in (file, str(file)):
        source = read_source(given, None, LIMIT)
        assert (source.name, source.origin, source.data) == ("notes.md", "upload", b"# Notes")


@pytest.mark.parametrize("name", ["research_paper.pdf", "calendar.pdf", "folder/my report.docx", "./data.CSV"])
def test_what_looks_like_a_file_and_is_none_is_an_error(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Storing the file name as a text would be a silent mistake."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="as text"):
        read_source(name, None, LIMIT)


@pytest.mark.parametrize(
    "text",
    ["Important finding: AI improves efficiency by 40%", "See report.pdf for more.", "a\nb.txt\n", "1.5 is a number"],
)
def test_a_text_is_a_text(text: str) -> None:
    """A text may mention a file; its name is derived from its content."""
    source = read_source(text, None, LIMIT)
    assert (source.origin, source.text) == ("text", text)
    assert source.name == read_source(text, None, LIMIT).name, "the same text has the same name"


def test_an_address_is_an_address() -> None:
    """The worker fetches it, if that is allowed."""
    assert read_source("https://example.org/a.pdf", None, LIMIT).url == "https://example.org/a.pdf"


@pytest.mark.parametrize(
    ("given", "error"),
    [(b"", DocumentEmpty), ("  ", DocumentEmpty), (b"x" * 1001, DocumentTooLarge), ("é" * 501, DocumentTooLarge),
     (7, BadRequest), ("\ud800", BadRequest)],
)  # fmt: skip
def test_what_cannot_be_added(given: object, error: type[Exception]) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(error):
        read_source(given, None, LIMIT)


def test_a_folder_and_a_large_file_are_refused(tmp_path: Path) -> None:
    """A file that is too large is refused before it is read."""
    with pytest.raises(BadRequest, match="folder"):
        read_source(tmp_path, None, LIMIT)
    large = tmp_path / "large.txt"
    large.write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(DocumentTooLarge, match="1,001 bytes"):
        read_source(large, None, LIMIT)
