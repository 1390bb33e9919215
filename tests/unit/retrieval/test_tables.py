"""Each row of a table names its columns, whatever the format, so that every passage has the header."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.documents import make_docx
from workers.retrieval.chunking import chunk_document
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.reader import read_document
from workers.retrieval.documents.table import Table, column_names, row_lines, table_lines
from workers.retrieval.ports import Document


async def text(data: bytes | str, name: str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return "\n".join(section.text for section in (await read_document(raw, name=name)).sections)


def test_a_row_names_its_columns() -> None:
    """Empty cells are left out; a column without name has its value only."""
    table = Table([["Country", "", "Fee"], ["France", "x", "86"], ["", "", ""], ["Spain", "", ""]], header_rows=1)
    assert table_lines(table) == ["Country: France; x; Fee: 86", "Country: Spain"]


def test_a_header_of_two_rows_is_one_name_for_each_column() -> None:
    """A merged cell is in each column and row that it covers, and occurs once in a name."""
    header, row = [["Region", "2023", "2023"], ["Region", "Q1", "Q2"]], ["North", "1", "2"]
    assert column_names(header) == ["Region", "2023 Q1", "2023 Q2"]
    assert table_lines(Table([*header, row], header_rows=2)) == ["Region: North; 2023 Q1: 1; 2023 Q2: 2"]


def test_columns_of_one_name_are_told_apart() -> None:
    """The second telephone number is not the first."""
    assert column_names([["Name", "Phone", "Phone"]]) == ["Name", "Phone", "Phone (2)"]


def test_a_column_without_values_keeps_its_name() -> None:
    """A form to fill in says what belongs into it, though no row does."""
    rows = [["No.", "Document", "Pages"], ["1", "Passport", ""], ["2", "Photo", ""]]
    assert table_lines(Table(rows, header_rows=1)) == [
        "No. | Document | Pages",
        "No.: 1; Document: Passport",
        "No.: 2; Document: Photo",
    ]


def test_a_row_across_all_columns_is_a_remark() -> None:
    """'Europe' above some rows is no country."""
    assert table_lines(Table([["Country", "Fee"], ["Europe"], ["France", "86"]], header_rows=1)) == [
        "Europe",
        "Country: France; Fee: 86",
    ]


def test_bars_and_colons_in_cells_are_kept() -> None:
    """Only empty cells at the ends of a row are left out."""
    rows = [["", "||", "or", ""], ["a |", "", "|", ""], ["x", "y", "z", ":"]]
    assert table_lines(Table(rows, header_rows=0)) == ["|| | or", "a | |  | |", "x | y | z | :"]
    named = Table([["Sign:", "::", ""], ["Empty:", "", ""]], header_rows=0, row_names=True)
    assert table_lines(named) == ["Sign: ::", "Empty"]


def test_a_header_that_is_repeated_on_each_page_is_no_row() -> None:
    """Its names are in each line already."""
    rows = [["a", "b"], ["1", "2"], ["a", "b"], ["3", "4"]]
    assert table_lines(Table(rows, header_rows=1)) == ["a: 1; b: 2", "a: 3; b: 4"]


class Counted(str):
    """A cell that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)


def test_a_long_header_is_compared_with_each_row_once() -> None:
    """A page can mark all rows but the last as its header."""
    rows = [[Counted(f"cell {number}")] for number in range(400)]
    table_lines(Table(rows, header_rows=200))
    assert Counted.compared < 2_000


def test_a_row_longer_than_a_passage_says_what_it_is_about_in_each_line() -> None:
    """A description of a thousand words still belongs to its article, and names its column."""
    lines = row_lines(["Article", "Text", "Price"], ["P-7", "word " * 399 + "end", "9"])
    assert max(map(len, lines)) <= 400
    assert all(line.startswith("Article: P-7; ") for line in lines)
    assert all("Text: " in line for line in lines[:-1])
    assert lines[-1].endswith("end; Price: 9")
    assert " ".join(lines).count("word") == 399


def test_thousands_of_columns_are_many_lines() -> None:
    """Each of them says whose values they are."""
    lines = row_lines([f"c{number}" for number in range(3_000)], [str(number) for number in range(3_000)])
    assert all(line.startswith("c0: 0") for line in lines)
    assert "c2999: 2999" in lines[-1]
    assert max(map(len, lines)) <= 400


@given(
    st.lists(st.text("ab c", max_size=12), min_size=1, max_size=60),
    st.lists(st.text("xyz ", max_size=900).map(lambda cell: " ".join(cell.split())), min_size=1, max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_nothing_of_a_row_is_lost(names: list[str], row: list[str]) -> None:
    """Every letter of every cell is in some line, and no line is longer than half a passage."""
    lines = row_lines(names, row)
    assert max(map(len, lines), default=0) <= (400 if len(lines) > 1 or len(row) > 1 or len(names) < 2 else 900)
    written = "".join("".join(lines).split())
    for letter in "xyz":
        assert written.count(letter) >= "".join(row).count(letter)


def test_a_name_longer_than_a_line_is_written_once() -> None:
    """A question of a survey is not repeated for each of a thousand answers."""
    question = "How much do you agree with this? " * 20
    header, first, _ = table_lines(Table([["Name", question.strip()], ["Ann", "much"], ["Bob", "not"]], header_rows=1))
    assert header == f"Name | {question.strip()}"
    assert first.startswith("Name: Ann; How much do you agree")
    assert len(first) < 250


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([["Country", "Fee"], ["France", "86"]], ["Country: France; Fee: 86"]),
        ([["Country", "2020"], ["France", "1"]], ["Country: France; 2020: 1"]),
        ([["Name", "Ada"], ["Work", "Computing"]], ["Name | Ada", "Work | Computing"]),
        ([["Name", "City", "Work"], ["Ada", "London", "Computing"]], ["Name: Ada; City: London; Work: Computing"]),
        ([["Step", "What"], ["Step 1", "Open it"], ["Step 2", "Close it"]],
         ["Step: Step 1; What: Open it", "Step: Step 2; What: Close it"]),
        ([["Ada", "36"], ["Bob", "41"]], ["Ada | 36", "Bob | 41"]),
        ([["only"], ["cells"]], ["only", "cells"]),
    ],
)  # fmt: skip
def test_a_table_that_marks_no_header_decides_by_its_columns(rows: list[list[str]], lines: list[str]) -> None:
    """A list of properties has no header; a text above numbers is one."""
    assert table_lines(Table(rows)) == lines


def test_names_of_rows_stand_before_their_values() -> None:
    """As in a box with the facts about a thing."""
    table = Table([["Born:", "1815", "London"], ["Died", "1852", ""]], header_rows=0, row_names=True)
    assert table_lines(table) == ["Born: 1815 | London", "Died: 1852"]


def test_every_passage_of_a_long_table_has_the_header() -> None:
    """A passage that begins in the middle of a table is understood on its own."""
    outline = Outline(DocumentLimits())
    outline.heading(1, "Fees")
    outline.text("What a passport costs. " * 20)
    outline.table(Table([["Country", "Fee in euros"], *([f"Land {n}", str(n)] for n in range(200))], header_rows=1))
    chunks = chunk_document(Document("markdown", outline.sections()))
    assert len(chunks) > 5
    assert all("Country: Land" in chunk.text and "Fee in euros: " in chunk.text for chunk in chunks[1:])


CSV = {
    "years": ("Country,2020,2021\nFrance,1,2\nSpain,3,4\n",
              "Country: France; 2020: 1; 2021: 2\nCountry: Spain; 2020: 3; 2021: 4"),
    "years far apart": (",1990,2020\nFrance,1,2\n", "France; 1990: 1; 2020: 2"),
    "only years": ("2019,2020,2021\n5,6,9\n", "2019: 5; 2020: 6; 2021: 9"),
    "months": ("Store,1,2,3\nA,4,2,8\n", "Store: A; 1: 4; 2: 2; 3: 8"),
    "dates as names": ("Region,2020-01,2020-02\nNorth,10,20", "Region: North; 2020-01: 10; 2020-02: 20"),
    "years as values": ("Ada,1985,2003\nBob,1990,2010\n",
                        "column 1: Ada; column 2: 1985; column 3: 2003\ncolumn 1: Bob; column 2: 1990; column 3: 2010"),
    "dates as values": ("Ada,1985-03-04\nBob,1990-05-06",
                        "column 1: Ada; column 2: 1985-03-04\ncolumn 1: Bob; column 2: 1990-05-06"),
    "a matrix": ("1,2,3\n4,5,6\n", "column 1: 1; column 2: 2; column 3: 3\ncolumn 1: 4; column 2: 5; column 3: 6"),
    "one name three times": ("Name,Phone,Phone,Phone\nAnn,1,2,3\n", "Name: Ann; Phone: 1; Phone (2): 2; Phone (3): 3"),
    "sep": ("sep=;\nArtikel;Preis\nSchraube;1,25\n", "Artikel: Schraube; Preis: 1,25"),
    "sep after a mark, with CRLF": ("\ufeffsep=|\r\na|b\r\n1|2\r\n", "a: 1; b: 2"),
    "decimal commas": ("Preis,netto;Preis,brutto\n1,25;2,50\n", "Preis,netto: 1,25; Preis,brutto: 2,50"),
    "commas in semicolons": ("Name, Vorname;Ort, PLZ, Land;Tel, Fax\nM, Max;K, 50667, DE;1, 2\n",
                             "Name, Vorname: M, Max; Ort, PLZ, Land: K, 50667, DE; Tel, Fax: 1, 2"),
    "quoted header": ('"a, b, c";"d"\n"1, 2, 3";"4"\n', "a, b, c: 1, 2, 3; d: 4"),
    "header of two lines": ('name,"size\nin cm"\nA,2\n', "name: A; size in cm: 2"),
    "bars": ("id|name\n1|Ann, Bob\n", "id: 1; name: Ann, Bob"),
    "tabs": ("a\tb\n1\t2,5\n", "a: 1; b: 2,5"),
    "one column of prose": ("Comment\nwell, yes\nfine\nno\n", "Comment: well, yes\nComment: fine\nComment: no"),
    "backslashes": ('a;b\n"say \\"hi\\" x";1\n', 'a: say "hi" x; b: 1'),
    "a quotation mark that is never closed": ('a,b\n"x,1\ny,2\n', 'a: "x; b: 1\na: y; b: 2'),
    "ragged": ("a,b\n1,2,3\n4\n", "a: 1; b: 2; column 3: 3\na: 4"),
    "a remark below": ("a,b\n1,2\nSource: our own\n", "a: 1; b: 2\nSource: our own"),
    "repeated header": ("a,b\n1,2\na,b\n3,4\n", "a: 1; b: 2\na: 3; b: 4"),
    "empty columns": ("a,,b\n1,,2\n", "a: 1; b: 2"),
    "pictures": (f"a,b\nx,data:image/png;base64,{'aB3/' * 60_000}\ny,2\n", "a: x\na: y; b: 2"),
    "header alone": ("a,b\n", "a, b"),
    "groups of columns": (",2023,,2024,\nRegion,Q1,Q2,Q1,Q2\nN,1,2,3,4\nS,1,2,3,4\n",
                          "Region: N; 2023 Q1: 1; 2023 Q2: 2; 2024 Q1: 3; 2024 Q2: 4\n"
                          "Region: S; 2023 Q1: 1; 2023 Q2: 2; 2024 Q1: 3; 2024 Q2: 4"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), CSV.values(), ids=CSV)
async def test_a_csv_is_read_as_it_is_meant(data: str, expected: str) -> None:
    """Its header is found, and its delimiter is the one that divides the rows evenly."""
    assert await text(data, "a.csv") == expected


async def test_a_long_text_is_no_name_of_a_column() -> None:
    """It would be repeated in each row."""
    assert (await text(f"{'word ' * 80},good\n{'term ' * 80},bad\n", "a.csv")).count("word") == 80


async def test_a_title_may_contain_the_delimiter() -> None:
    """A full row that is clearly a header begins the table."""
    data = "Sales report, 2024\nAll regions, all shops\nRegion,Q1,Q2\nNorth,10,20\nSouth,30,40\n"
    assert (await text(data, "a.csv")).split("\n") == [
        "Sales report, 2024",
        "All regions, all shops",
        "Region: North; Q1: 10; Q2: 20",
        "Region: South; Q1: 30; Q2: 40",
    ]


FORMATS = {
    "a.csv": lambda rows: "\n".join(map(",".join, rows)).encode(),
    "a.md": lambda rows: "\n".join(
        f"|{'|'.join(row)}|" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])
    ).encode(),
    "a.html": lambda rows: (
        "<table>" + "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}" for row in rows)
    ).encode(),
    "a.docx": lambda rows: make_docx(["# Fees", rows]),
}


@pytest.mark.parametrize("name", FORMATS)
async def test_every_passage_has_the_header_in_every_format(name: str) -> None:
    """The tables are one, and so are their passages."""
    rows = [["Country", "Fee in euros"], *([f"Land {number}", str(number)] for number in range(100))]
    chunks = chunk_document(await read_document(FORMATS[name](rows), name=name))
    assert len(chunks) > 3
    assert all("Country: Land " in chunk.text and "Fee in euros: " in chunk.text for chunk in chunks)
    assert "Country: Land 99; Fee in euros: 99" in chunks[-1].text


@pytest.mark.parametrize("title", ["Sales report 2024\n\n", "Sales report 2024,,\n,,\n"])
async def test_a_title_above_a_csv_is_in_all_headings(title: str) -> None:
    """It is not the header, and says what all rows are about."""
    rows = "".join(f"North {number},{number},20\n" for number in range(60))
    document = await read_document(f"{title}Region,Q1,Q2\n{rows}".encode(), name="a.csv")
    first, second = document.sections
    assert first.text.startswith("Sales report 2024\nRegion: North 0; Q1: 0; Q2: 20\n")
    assert [first.heading, second.heading] == ["Sales report 2024 > rows 1 to 50", "Sales report 2024 > rows 51 to 60"]
