"""Tables of a DOCX: merged, nested and repeating cells, and a header in every row."""

from __future__ import annotations

from tests.support.word import cell, make_word, paragraph, table, text_of
from workers.retrieval.chunking import chunk_document
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.word import read_docx

DOWN, GOES_ON = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"


def across(columns: int) -> str:
    return f'<w:gridSpan w:val="{columns}"/>'


def test_every_passage_of_a_long_table_has_the_header() -> None:
    """A passage from the middle of a table names the columns."""
    rows = [[cell(f"Land {number}"), cell(str(number))] for number in range(200)]
    body = table([cell("Country"), cell("Fee in euros")], *rows, header=1)
    chunks = chunk_document(read_docx(make_word(body), DocumentLimits()))
    assert len(chunks) > 5
    assert all("Country: Land" in chunk.text and "; Fee in euros: " in chunk.text for chunk in chunks)


def test_a_header_of_two_marked_rows_names_columns_with_both() -> None:
    """Merged cells of the header are in each name that they stand above."""
    head = [cell("Region", properties=DOWN), cell("2023", properties=across(2))]
    below = [cell("", properties=GOES_ON), cell("Q1"), cell("Q2")]
    line = "Region: North; 2023 Q1: 5; 2023 Q2: 6"
    assert text_of(table(head, below, [cell("North"), cell("5"), cell("6")], header=2)) == line
    assert text_of(table(head, below, [cell("North"), cell("5"), cell("6")])) == line


def test_a_cell_that_reaches_down_is_in_each_of_its_rows() -> None:
    """A row is understood alone; a long text is not repeated."""
    rows = [
        [cell("Europe", properties=DOWN), cell("France"), cell("86", properties=DOWN)],
        [cell("", properties=GOES_ON), cell("Spain"), cell("", properties=GOES_ON)],
        [cell("Asia"), cell("Japan"), cell("x" * 300, properties=DOWN)],
        [cell("Asia"), cell("China"), cell("", properties=GOES_ON)],
    ]
    assert text_of(table([cell("Area"), cell("Country"), cell("Fee")], *rows, header=1)).split("\n") == [
        "Area: Europe; Country: France; Fee: 86",
        "Area: Europe; Country: Spain; Fee: 86",
        "Area: Asia; Country: Japan; Fee: " + "x" * 300,
        "Area: Asia; Country: China",
    ]


def test_rows_across_all_columns() -> None:
    """Above the header they are a title; below it, remarks. A value across some columns is in the first of them."""
    rows = [
        [cell("Prices 2024", properties=across(3))],
        [cell("Country"), cell("Adults"), cell("Children")],
        [cell("Europe", properties=across(3))],
        [cell("France"), cell("86", properties=across(2))],
        [cell("Spain"), cell("30"), cell("15")],
    ]
    assert text_of(table(*rows)) == (
        "Prices 2024\n\nEurope\nCountry: France; Adults: 86\nCountry: Spain; Adults: 30; Children: 15"
    )


def test_a_form_whose_rows_are_divided_differently_has_no_header() -> None:
    """Its first row names nothing below it."""
    rows = [
        [cell("Name"), cell("Ann Smith", properties=across(3))],
        [cell("Born"), cell("1990"), cell("In"), cell("Lisbon")],
        [cell("Employed at", properties=across(2)), cell("Orion", properties=across(2))],
    ]
    assert text_of(table(*rows)) == "Name | Ann Smith\nBorn | 1990 | In | Lisbon\nEmployed at | Orion"


def test_deleted_and_hidden_rows_and_cells_are_left_out() -> None:
    """A tracked deletion of a row marks the row; the other rows keep their columns."""
    deleted = f"<w:tr><w:trPr><w:del w:id='1'/></w:trPr>{cell('old')}{cell('1')}</w:tr>"
    hidden = f"<w:tr><w:trPr><w:hidden/></w:trPr>{cell('secret')}{cell('2')}</w:tr>"
    before = f"<w:tr><w:trPr><w:gridBefore w:val='1'/></w:trPr>{cell('4')}</w:tr>"
    header = f"<w:tr><w:trPr><w:tblHeader/></w:trPr>{cell('Name')}{cell('Fee')}</w:tr>"
    gone = f"<w:tr>{cell('cell', properties='<w:cellDel/>')}{cell('3')}</w:tr>"
    assert text_of(f"<w:tbl>{header}{deleted}{hidden}{before}{gone}</w:tbl>") == "Name | Fee\nFee: 4\nFee: 3"


def test_rows_and_cells_in_content_controls_are_read() -> None:
    """A repeating section wraps rows, a control of a cell wraps the cell."""

    def wrapped(inner: str) -> str:
        return f"<w:sdt><w:sdtPr><w:tag w:val='x'/></w:sdtPr><w:sdtContent>{inner}</w:sdtContent></w:sdt>"

    second = f"<w:tr>{cell('City')}{cell('Lisbon')}</w:tr>"
    rows = f"<w:tr>{cell('Name')}{wrapped(cell('Ann'))}</w:tr>{wrapped(second)}"
    assert text_of(wrapped(f"<w:tbl>{rows}</w:tbl>")) == "Name | Ann\nCity | Lisbon"


def test_tables_that_only_place_paragraphs_are_not_tables() -> None:
    """One column, or one row with paragraphs in it: a frame around text, or text beside text."""
    heading = paragraph("Inside", properties='<w:outlineLvl w:val="0"/>')
    inner = table([cell("Item"), cell("Count")], [cell("bolt"), cell("4")], header=1)
    framed = table([cell(heading, "text")], [cell(inner, "after")])
    assert text_of(framed) == "Inside\n\ntext\n\nItem: bolt; Count: 4\n\nafter"
    assert text_of(table([cell("left", "more"), cell("right")])) == "left\n\nmore\n\nright"
    assert text_of(table([cell("left"), cell("right")])) == "left | right"


def test_a_table_in_a_cell_belongs_to_its_row() -> None:
    """Its rows name their columns, in the line of the row that contains it."""
    inner = table([cell("Part"), cell("Count")], [cell("bolt"), cell("4")], [cell("nut"), cell("8")], header=1)
    rows = [[cell("Kit"), cell("Contents")], [cell("K-1"), cell("with", inner)]]
    assert text_of(table(*rows, header=1)) == "Kit: K-1; Contents: with Part: bolt; Count: 4 Part: nut; Count: 8"


def test_a_cell_of_absurd_width_costs_nothing() -> None:
    """Word has 63 columns at most."""
    text = text_of(
        table([cell("a", properties=across(10**9)), cell("b")], [cell("c"), cell("d")], [cell("e"), cell("f")])
    )
    assert len(text) < 200
