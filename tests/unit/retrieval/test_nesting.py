"""Pages that are nested without end cost what they weigh, and say what they said."""

from __future__ import annotations

import pytest

from workers.retrieval.documents.html import read_html
from workers.retrieval.documents.html.nesting import DEEPEST, flatten
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.markdown import read_markdown
from workers.retrieval.documents.plain import clean


def words(page: str) -> str:
    """The words of a page, in order."""
    return " ".join(section.text for section in read_html(page, DocumentLimits()).sections).replace("\n", " ")


def test_a_page_of_a_usual_depth_is_parsed_as_it_is() -> None:
    """A page that a browser would nest completely comes back unchanged."""
    page = "<div>" * DEEPEST + "text" + "</div>" * DEEPEST
    assert flatten(page) == page


@pytest.mark.parametrize("name", ["div", "span", "ul", "section", "b"])
@pytest.mark.parametrize("closed", [True, False])
def test_what_is_nested_too_deep_keeps_its_words(name: str, closed: bool) -> None:
    """A megabyte of open elements used to take minutes; the test's own time limit is the bound."""
    depth = 20_000
    page = "before " + f"<{name}>" * depth + "within" + (f"</{name}>" * depth if closed else "") + " after"
    assert flatten(page).count(f"<{name}>") == DEEPEST
    assert words(page).split() == ["before", "within", "after"]


@pytest.mark.parametrize(
    "page",
    [
        "<p title='a>b' " + " ".join(f"a{n}=1" for n in range(60_000)) + ">seen",
        "<p " + "".join(f"/a{n}" for n in range(60_000)) + ">seen",
        "<p " + "".join(f"a{n}=''" for n in range(60_000)) + ">seen",
        "".join(f"<body a{n}=1>" for n in range(30_000)) + "seen",
    ],
    ids=["spaces", "slashes", "quotes", "bodies"],
)
def test_an_element_full_of_attributes_keeps_its_words(page: str) -> None:
    """A parser compares each attribute with all before it: a megabyte of them took a minute."""
    assert len(flatten(page)) < 1_000
    assert words(page) == "seen"


def test_quoted_signs_end_no_element() -> None:
    """Ordinary attributes stay, whatever they contain."""
    page = (
        "<p title='a > b' hidden>not seen</p><p don't=\"x>y\">seen</p><div hidden title=\"" + "x y " * 90 + '">no</div>'
    )
    assert flatten(page) == page
    assert words(page) == "seen"


def test_comments_and_scripts_are_no_elements() -> None:
    """Text that looks like a tag in them opens no element."""
    page = "<!-- " + "<div>" * 1000 + " --><script>" + "<div>" * 1000 + "</script><p>seen</p>"
    assert flatten(page) == page
    assert words(page) == "seen"


def test_a_heading_of_brackets_is_read() -> None:
    """Markdown looks for the end of each bracket: a long line of them took seconds."""
    sections = read_markdown("# " + "[" * 200_000 + "\n\nText below.", DocumentLimits()).sections
    assert "Text below." in sections[-1].text


def test_a_character_under_a_mountain_of_marks_is_read() -> None:
    """Normalizing sorts a character's marks in quadratic time: no script has more than thirty."""
    marks = "\u0301\u0323" * 50_000
    assert len(clean("a" + marks + " b")) < 100
    assert clean("e\u0301") == "\u00e9"
