"""Headings and list items of a DOCX have the numbers that Word computes for them."""

from __future__ import annotations

import pytest

from tests.support.word import paragraph, part, read_word, text_of
from workers.retrieval.ports import Section

Parts = dict[str, tuple[str, str | bytes]]


def level(number: int, numbering: str, text: str, more: str = "", start: int = 1) -> str:
    return (
        f'<w:lvl w:ilvl="{number}"><w:start w:val="{start}"/><w:numFmt w:val="{numbering}"/>{more}'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
    )


def numbering(levels: str, lists: str = '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>') -> Parts:
    definition = f'<w:abstractNum w:abstractNumId="0">{levels}</w:abstractNum>'
    return {"numbering.xml": ("numbering", part("w:numbering", definition + lists))}


def styles(*each: tuple[str, str, str]) -> Parts:
    """A styles part: id, name and paragraph properties of each style."""
    xml = "".join(
        f'<w:style w:styleId="{style_id}"><w:name w:val="{name}"/><w:pPr>{properties}</w:pPr></w:style>'
        for style_id, name, properties in each
    )
    return {"styles.xml": ("styles", part("w:styles", xml))}


def item(text: str, at: int | None = 0, number: str = "1") -> str:
    where = "" if at is None else f'<w:ilvl w:val="{at}"/>'
    return paragraph(text, properties=f'<w:numPr>{where}<w:numId w:val="{number}"/></w:numPr>')


def headed(style_id: str, text: str, properties: str = "") -> str:
    return paragraph(text, properties=f'<w:pStyle w:val="{style_id}"/>{properties}')


def test_items_of_a_list_have_their_numbers() -> None:
    """Levels below are indented, and begin again under each item; a list is one block."""
    levels = level(0, "decimal", "%1.") + level(1, "lowerLetter", "%2)") + level(2, "bullet", "\uf0b7")
    body = item("one") + item("a", 1) + item("b", 1) + item("x", 2) + item("two") + item("a", 1) + paragraph("End")
    assert text_of(body, numbering(levels)) == "1. one\n  a) a\n  b) b\n    - x\n2. two\n  a) a\n\nEnd"


def test_numbers_of_several_levels() -> None:
    """'1.2.3', in the formats of the levels above unless the level asks for plain numerals."""
    levels = (
        level(0, "upperRoman", "Part %1") + level(1, "decimal", "%1.%2") + level(2, "decimal", "%1.%2.%3", "<w:isLgl/>")
    )
    body = item("a") + item("b", 1) + item("c", 1) + item("d", 2) + item("e") + item("f", 2)
    assert [line.strip() for line in text_of(body, numbering(levels)).split("\n")] == [
        "Part I a", "I.1 b", "I.2 c", "1.2.1 d", "Part II e", "2.1.1 f",
    ]  # fmt: skip


def test_plain_numerals_keep_their_zeros() -> None:
    """As in 'Section 1.01' under 'Article I'."""
    levels = level(0, "upperRoman", "Article %1.") + level(1, "decimalZero", "Section %1.%2", "<w:isLgl/>")
    assert text_of(item("a") + item("b", 1), numbering(levels)) == "Article I. a\n  Section 1.01 b"


def test_headings_have_their_numbers() -> None:
    """By their styles, as handbooks have it; the headings above a section have them, too."""
    links = '<w:pStyle w:val="H{}"/>'
    levels = level(0, "decimal", "%1", links.format(1)) + level(1, "decimal", "%1.%2", links.format(2))
    numbered = '<w:numPr><w:numId w:val="1"/></w:numPr>'
    known = styles(("H1", "heading 1", numbered), ("H2", "heading 2", numbered))
    body = headed("H1", "Scope") + headed("H2", "Staff") + headed("H2", "Guests") + paragraph("All of them.")
    assert list(read_word(body, {**numbering(levels), **known}).sections) == [
        Section("1 Scope\n\n1.1 Staff", heading="1 Scope > 1.1 Staff"),
        Section("1.2 Guests\n\nAll of them.", heading="1 Scope > 1.2 Guests"),
    ]


def test_a_list_can_restart() -> None:
    """Lists of one definition count on together; one with a start of its own begins with it."""
    lists = "".join(
        f'<w:num w:numId="{number}"><w:abstractNumId w:val="0"/>{override}</w:num>'
        for number, override in (
            (1, ""), (2, ""), (3, '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride>'),
            (4, f'<w:lvlOverride w:ilvl="0">{level(0, "upperLetter", "(%1)")}</w:lvlOverride>'),
        )
    )  # fmt: skip
    body = item("a") + item("b", number="2") + item("c", number="3") + item("d", number="3") + item("e", number="4")
    body += item("f") + item("g", number="3")
    assert text_of(body, numbering(level(0, "decimal", "%1."), lists)) == "1. a\n2. b\n5. c\n6. d\n(G) e\n8. f\n9. g"


def test_a_level_that_never_restarts_counts_on() -> None:
    """As steps do that are numbered through all chapters."""
    levels = level(0, "decimal", "%1.") + level(1, "decimal", "Step %2:", '<w:lvlRestart w:val="0"/>')
    body = item("a") + item("x", 1) + item("b") + item("y", 1)
    assert text_of(body, numbering(levels)).split("\n")[3].strip() == "Step 2: y"


@pytest.mark.parametrize(
    ("numeral", "start", "label"),
    [
        ("lowerLetter", 28, "bb"), ("upperLetter", 3, "C"), ("lowerRoman", 49, "xlix"), ("upperRoman", 4, "IV"),
        ("decimalZero", 7, "07"), ("ordinal", 12, "12th"), ("ordinal", 22, "22nd"), ("lowerRoman", 5_000, "5000"),
        ("lowerLetter", 900_000, "900000"), ("japaneseCounting", 3, "3"), ("none", 3, ""),
    ],
)  # fmt: skip
def test_numerals(numeral: str, start: int, label: str) -> None:
    """Those that few documents use become Arabic ones, as do numbers for which there is no numeral."""
    assert text_of(item("x"), numbering(level(0, numeral, "%1", start=start))) == f"{label} x".strip()


def test_a_list_can_be_defined_by_a_style_of_lists() -> None:
    """Its definition only names the style, which names another list."""
    definitions = (
        '<w:abstractNum w:abstractNumId="0"><w:numStyleLink w:val="Steps"/></w:abstractNum>'
        f'<w:abstractNum w:abstractNumId="1"><w:styleLink w:val="Steps"/>{level(0, "decimal", "%1)")}</w:abstractNum>'
    )
    lists = "".join(f'<w:num w:numId="{n + 1}"><w:abstractNumId w:val="{n}"/></w:num>' for n in range(2))
    steps = (
        '<w:style w:type="numbering" w:styleId="Steps"><w:pPr><w:numPr><w:numId w:val="2"/></w:numPr></w:pPr></w:style>'
    )
    parts: Parts = {
        "numbering.xml": ("numbering", part("w:numbering", definitions + lists)),
        "styles.xml": ("styles", part("w:styles", steps)),
    }
    assert text_of(item("x"), parts) == "1) x"


def test_lists_that_are_not_defined_have_bullets() -> None:
    """And number zero is Word's way to say that a paragraph of a list's style is no item."""
    known = styles(
        ("LB", "List Bullet", ""),
        ("LP", "List Paragraph", ""),
        ("N", "Mine", '<w:numPr><w:numId w:val="9"/></w:numPr>'),
    )
    body = (
        item("a", number="7") + headed("LB", "b") + headed("N", "c") + headed("LP", "indented")
        + headed("N", "none", '<w:numPr><w:numId w:val="0"/></w:numPr>')
    )  # fmt: skip
    assert text_of(body, known) == "- a\n- b\n- c\n\nindented\n\nnone"


def test_deleted_items_are_not_counted() -> None:
    """As if all changes were accepted."""
    gone = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr><w:rPr><w:del w:id="1"/></w:rPr>'
    body = item("a") + paragraph("<w:del><w:r><w:delText>x</w:delText></w:r></w:del>", properties=gone) + item("b")
    assert text_of(body, numbering(level(0, "decimal", "%1."))) == "1. a\n2. b"


@pytest.mark.parametrize(
    ("name", "properties", "direct", "heading"),
    [
        ("heading 2", "", "", "text"),
        ("Heading 2", "", "", "text"),
        ("\u00dcberschrift 2", '<w:outlineLvl w:val="1"/>', "", "text"),
        ("Mine", "", '<w:outlineLvl w:val="0"/>', "text"),
        ("Title", "", "", "text"),
        ("Mine", "", "", None),
        ("heading 2", '<w:outlineLvl w:val="9"/>', "", None),
        ("heading 2", "", '<w:outlineLvl w:val="9"/>', None),
        ("Heading 2 Remark", "", "", None),
    ],
)
def test_headings_are_known_by_style_and_outline_level(
    name: str, properties: str, direct: str, heading: str | None
) -> None:
    """Whatever language the program runs in; what a paragraph says itself precedes its style."""
    (section,) = read_word(headed("S", "text", direct), styles(("S", name, properties))).sections
    assert section.heading == heading


def test_a_style_based_on_a_heading_is_one() -> None:
    """And a circle of styles ends."""
    xml = "".join(
        f'<w:style w:styleId="{style_id}"><w:name w:val="{name}"/><w:basedOn w:val="{base}"/></w:style>'
        for style_id, name, base in (("A", "mine", "B"), ("B", "heading 1", "A"), ("C", "x", "D"), ("D", "y", "C"))
    )
    parts: Parts = {"styles.xml": ("styles", part("w:styles", xml))}
    sections = read_word(headed("A", "Chapter") + headed("C", "text"), parts).sections
    assert list(sections) == [Section("Chapter\n\ntext", heading="Chapter")]
