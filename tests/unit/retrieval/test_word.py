"""A DOCX is read as Word shows it: what is wrapped, computed or drawn is text; what is deleted or hidden is not."""

from __future__ import annotations

import pytest

from tests.support.word import cell, field, paragraph, part, read_word, run, table, text_of
from workers.retrieval.ports import Section

BY = 'w:id="1" w:author="A" w:date="2024-01-01T00:00:00Z"'
VANISH = "<w:vanish/>"


def style(style_id: str, name: str, properties: str = "", *, kind: str = "paragraph", based_on: str = "") -> str:
    """A style in the styles part."""
    base = f'<w:basedOn w:val="{based_on}"/>' if based_on else ""
    return f'<w:style w:type="{kind}" w:styleId="{style_id}"><w:name w:val="{name}"/>{base}{properties}</w:style>'


def styles(*each: str) -> dict[str, tuple[str, str | bytes]]:
    return {"styles.xml": ("styles", part("w:styles", "".join(each)))}


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        (f"{run('The fee is ')}<w:ins {BY}>{run('450 euros')}</w:ins>{run(' a year')}", "The fee is 450 euros a year"),
        (f"{run('Keep ')}<w:moveTo {BY}>{run('this clause')}</w:moveTo>", "Keep this clause"),
        (f"{run('Customer: ')}<w:sdt><w:sdtPr><w:tag w:val='x'/></w:sdtPr><w:sdtContent>{run('Orion')}</w:sdtContent>"
         "</w:sdt>", "Customer: Orion"),
        (f"{run('Total: ')}<w:fldSimple w:instr=' =SUM(ABOVE) '>{run('1234')}</w:fldSimple>", "Total: 1234"),
        (f"{run('In ')}<w:smartTag w:element='City'>{run('Lisbon')}</w:smartTag>", "In Lisbon"),
        (f"<w:customXml w:element='x'>{run('tagged')}</w:customXml>{run(' plain')}", "tagged plain"),
        (f"<w:bdo w:val='rtl'>{run('inner')}</w:bdo><w:dir w:val='rtl'>{run(' outer')}</w:dir>", "inner outer"),
        (f"<w:hyperlink w:anchor='x'>{run('a link')}</w:hyperlink>", "a link"),
        (f"<w:r><w:ruby><w:rubyPr/><w:rt>{run('とうきょう')}</w:rt><w:rubyBase>{run('東京')}</w:rubyBase></w:ruby></w:r>",
         "東京"),
        (f"<w:unheard-of><w:of>{run('kept')}</w:of></w:unheard-of>", "kept"),
        (f"{run('Fee ')}<w:del {BY}><w:r><w:delText>300</w:delText></w:r></w:del>{run('open')}", "Fee open"),
        (f"{run('Keep')}<w:moveFrom {BY}>{run(' old place')}</w:moveFrom>", "Keep"),
        (f"<w:del {BY}><w:ins {BY}>{run('regretted')}</w:ins></w:del>{run('kept')}", "kept"),
        (f"{run('one')}<w:r><w:tab/></w:r>{run('two')}<w:r><w:br/></w:r>{run('three')}", "one two\nthree"),
        (f"{run('e')}<w:r><w:noBreakHyphen/></w:r>{run('mail')}<w:r><w:softHyphen/></w:r>{run('ing')}", "e-mailing"),
        (run("indented\n      XML"), "indented XML"),
        (f"{run('100 ')}<w:r><w:sym w:font='Symbol' w:char='F06D'/></w:r>{run('g ')}"
         "<w:r><w:sym w:font='Wingdings' w:char='F0FC'/></w:r>", "100 μg ✓"),
        (run("W", "<w:rFonts w:ascii='Symbol' w:hAnsi='Symbol'/>") + run(" \uf0b0C"), "Ω C"),
        ("<w:r><w:fldChar w:fldCharType='begin'><w:ffData><w:checkBox><w:checked/></w:checkBox></w:ffData></w:fldChar>"
         f"<w:instrText>FORMCHECKBOX</w:instrText><w:fldChar w:fldCharType='end'/></w:r>{run(' yes')}", "☒ yes"),
    ],
)  # fmt: skip
def test_a_paragraph_is_what_word_shows(inner: str, text: str) -> None:
    """Whatever wraps a run, its text is read; what was deleted or moved away is not."""
    assert text_of(f"<w:p>{inner}</w:p>") == text


@pytest.mark.parametrize(
    ("properties", "shown"),
    [
        (VANISH, False),
        ('<w:vanish w:val="0"/>', True),
        ('<w:vanish w:val="true"/>', False),
        ("<w:webHidden/>", True),
        ('<w:rStyle w:val="Secret"/>', False),
        ('<w:rStyle w:val="Based"/>', False),
        ('<w:rStyle w:val="Secret"/><w:vanish w:val="false"/>', True),
        ('<w:rStyle w:val="Unknown"/>', True),
    ],
)
def test_hidden_runs_are_no_text(properties: str, shown: bool) -> None:
    """A run is hidden by itself or by its style; what it says itself precedes."""
    secret = style("Secret", "Secret", f"<w:rPr>{VANISH}</w:rPr>", kind="character")
    based = style("Based", "Based", kind="character", based_on="Secret")
    text = text_of(paragraph("seen", run(" SECRET", properties)), styles(secret, based))
    assert text == ("seen SECRET" if shown else "seen")


def test_paragraphs_with_a_hidden_style_are_no_text() -> None:
    """A paragraph style hides, and a character style in it that also hides shows again, as the standard says."""
    hidden = style("Hidden", "Hidden", f"<w:rPr>{VANISH}</w:rPr>")
    both = style("Both", "Both", f"<w:rPr>{VANISH}</w:rPr>", kind="character")
    body = paragraph("no", run(" again", '<w:rStyle w:val="Both"/>'), properties='<w:pStyle w:val="Hidden"/>')
    assert text_of(body + paragraph("seen"), styles(hidden, both)) == "again\n\nseen"


def test_old_properties_are_not_the_present_ones() -> None:
    """A tracked change of the format keeps the former style in the document."""
    was = '<w:pPrChange w:id="1"><w:pPr><w:pStyle w:val="Heading1"/></w:pPr></w:pPrChange>'
    now_shown = f'<w:rPrChange w:id="2"><w:rPr>{VANISH}</w:rPr></w:rPrChange>'
    body = paragraph(run("text", now_shown), properties=was)
    assert list(read_word(body, styles(style("Heading1", "heading 1"))).sections) == [Section("text")]


@pytest.mark.parametrize("mark", [f"<w:del {BY}/>", f"<w:moveFrom {BY}/>"])
def test_a_deleted_end_of_a_paragraph_joins_it_to_the_next(mark: str) -> None:
    """As if all changes were accepted; a paragraph that was deleted as a whole leaves nothing."""
    properties = f"<w:rPr>{mark}</w:rPr>"
    gone = f"<w:del {BY}><w:r><w:delText>gone</w:delText></w:r></w:del>"
    body = (
        paragraph("The fee is", properties=properties) + paragraph("450.") + paragraph(gone, properties=properties)
        + paragraph("End.")
    )  # fmt: skip
    assert text_of(body) == "The fee is 450.\n\nEnd."


def test_a_drop_cap_belongs_to_its_word() -> None:
    """Its letter is a paragraph of its own in the file."""
    body = paragraph("D", properties='<w:framePr w:dropCap="drop" w:lines="3"/>') + paragraph("rop")
    assert text_of(body) == "Drop"


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("<m:r><m:t>E=mc2</m:t></m:r>", "E=mc2"),
        ("<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>", "(a+b)/2"),
        ("<m:sSup><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>", "x^2"),
        ("<m:sSub><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sub><m:r><m:t>i</m:t></m:r></m:sub></m:sSub>", "x_i"),
        ("<m:rad><m:radPr/><m:deg/><m:e><m:r><m:t>2x</m:t></m:r></m:e></m:rad>", "√2x"),
        ("<m:d><m:dPr><m:begChr m:val='['/><m:endChr m:val=']'/></m:dPr><m:e><m:r><m:t>a</m:t></m:r></m:e></m:d>",
         "[a]"),
        ("<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr><m:sub><m:r><m:t>i=1</m:t></m:r></m:sub><m:sup><m:r>"
         "<m:t>n</m:t></m:r></m:sup><m:e><m:r><m:t>i</m:t></m:r></m:e></m:nary>", "∑_(i=1)^n i"),
        (f"<m:r><m:t>a</m:t></m:r><w:del {BY}><m:r><m:t>b</m:t></m:r></w:del>", "a"),
        (f"<m:r><w:rPr>{VANISH}</w:rPr><m:t>b</m:t></m:r><m:r><m:t>a</m:t></m:r>", "a"),
        ("<m:m><m:mr><m:e><m:r><m:t>1</m:t></m:r></m:e><m:e><m:r><m:t>0</m:t></m:r></m:e></m:mr></m:m>", "[1, 0]"),
    ],
)  # fmt: skip
def test_a_formula_is_one_line(formula: str, text: str) -> None:
    """Structure that a reader sees becomes the signs that people type."""
    assert text_of(f"<w:p>{run('so ')}<m:oMath>{formula}</m:oMath></w:p>") == f"so {text}"
    assert text_of("<m:oMath><m:r><m:t>x</m:t></m:r></m:oMath>") == "x"
    assert text_of(f"<m:oMathPara><m:oMath>{formula}</m:oMath></m:oMathPara>") == text


def test_fields_are_their_results() -> None:
    """Instructions are not text, even if they contain the result of another field."""
    inner = field("MERGEFIELD sex", "female")
    chosen = field(f' IF </w:instrText></w:r>{inner}<w:r><w:instrText> = "x" ', "Dear Ms. Smith")
    assert text_of(paragraph("Hello: ", chosen, field("PAGEREF _Toc1", "12"))) == "Hello: Dear Ms. Smith12"


def test_a_field_without_an_end_loses_nothing() -> None:
    """A damaged table of contents does not reach to the end of the document."""
    begins = '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>TOC</w:instrText></w:r>'
    separate = '<w:r><w:fldChar w:fldCharType="separate"/></w:r>'
    assert text_of(paragraph(begins, separate, "one") + paragraph("two")) == "one\n\ntwo"


def test_tables_of_contents_and_indexes_are_left_out() -> None:
    """They repeat the headings, and what follows them in the same paragraph is read."""
    begin, code = '<w:r><w:fldChar w:fldCharType="begin"/></w:r>', "<w:r><w:instrText> TOC \\o 1 </w:instrText></w:r>"
    middle, end = ('<w:r><w:fldChar w:fldCharType="' + kind + '"/></w:r>' for kind in ("separate", "end"))
    contents = (
        paragraph(begin, code, middle, "Fees", "<w:r><w:tab/></w:r>", field("PAGEREF _Toc1", "3"))
        + paragraph("Travel 4", end, "Foreword")
    )  # fmt: skip
    gallery = '<w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj></w:sdtPr>'
    control = f"<w:sdt>{gallery}<w:sdtContent>{paragraph('Contents')}{contents}</w:sdtContent></w:sdt>"
    index = paragraph(field("INDEX \\c 2", "fee, 3"))
    assert text_of(contents + index) == "Foreword"
    assert text_of(control + paragraph("Text")) == "Text"


def box(text: str) -> str:
    return f"<w:txbxContent>{paragraph(text)}</w:txbxContent>"


def test_a_text_box_is_read_once_after_its_paragraph() -> None:
    """Word writes it twice: as a shape, and as VML for older programs."""
    choice = f"<mc:Choice Requires='wps'><w:drawing><wps:txbx>{box('Call 112')}</wps:txbx></w:drawing></mc:Choice>"
    fallback = (
        f"<mc:Fallback><w:pict><v:shape><v:textbox>{box('Call 112')}</v:textbox></v:shape></w:pict></mc:Fallback>"
    )
    both = f"<w:r><mc:AlternateContent>{choice}{fallback}</mc:AlternateContent></w:r>"
    assert text_of(paragraph("In an ", both, "emergency")) == "In an emergency\n\nCall 112"
    only = f"<w:r><mc:AlternateContent><mc:Choice Requires='x'/>{fallback}</mc:AlternateContent></w:r>"
    assert text_of(paragraph(only)) == "Call 112"
    assert (
        text_of(
            f"<mc:AlternateContent>{'<mc:Choice/>'}<mc:Fallback>{paragraph('x')}</mc:Fallback></mc:AlternateContent>"
        )
        == "x"
    )
    art = "<w:r><w:pict><v:shape><v:textpath string='DRAFT'/></v:shape></w:pict></w:r>"
    assert text_of(paragraph("Text", art)) == "Text\n\nDRAFT"


def test_smart_art_and_charts_have_texts() -> None:
    """Their texts are in parts of their own."""
    points = "".join(
        f"<dgm:pt type='{kind}'><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>"
        for kind, text in (("node", "Plan"), ("pres", "layout"), ("node", "Build"))
    )

    def cache(tag: str, *values: str) -> str:
        return f"<c:{tag}><c:strCache>" + "".join(
            f"<c:pt idx='{n}'><c:v>{value}</c:v></c:pt>" for n, value in enumerate(values)
        ) + f"</c:strCache></c:{tag}>"  # fmt: skip

    series = "<c:ser>" + cache("tx", "Sales") + cache("cat", "Q1", "Q2") + cache("val", "5", "7") + "</c:ser>"
    title = "<c:title><c:tx><c:rich><a:p><a:r><a:t>By quarter</a:t></a:r></a:p></c:rich></c:tx></c:title>"
    parts = {
        "diagrams/data1.xml": ("diagramData", part("dgm:dataModel", f"<dgm:ptLst>{points}</dgm:ptLst>")),
        "charts/chart1.xml": ("chart", part("c:chartSpace", f"<c:chart>{title}{series}</c:chart>")),
    }
    body = "<w:r><w:drawing><dgm:relIds r:dm='data1'/></w:drawing><w:drawing><c:chart r:id='chart1'/></w:drawing></w:r>"
    assert text_of(paragraph(body), parts) == "Plan\nBuild\n\nBy quarter\nQ1; Sales: 5\nQ2; Sales: 7"


@pytest.mark.parametrize(
    ("alternative", "text"),
    [
        ("The route from Lisbon to Porto", "The route from Lisbon to Porto"),
        ("A map&#xA;&#xA;Description automatically generated with medium confidence", "A map"),
        ("A map AI-generated content may be incorrect.", "A map"),
        ("C:\\Users\\ann\\my map.png", ""),
        ("https://example.org/map?size=3", ""),
        ("map.JPEG", ""),
        ("_x0000_t75", ""),
        ("", ""),
    ],
)
def test_what_is_said_in_place_of_a_picture_is_read(alternative: str, text: str) -> None:
    """As on web pages, unless it only says where the picture came from."""
    picture = (
        f'<w:r><w:drawing><wp:inline><wp:docPr id="1" name="x" descr="{alternative}"/></wp:inline></w:drawing></w:r>'
    )
    assert text_of(paragraph("See", picture)) == f"See\n\n{text}".strip()


def test_notes_stand_after_what_refers_to_them() -> None:
    """Their marks are in the text, though not in headings; each note is read once, and separators are none."""
    reference = "<w:r><w:footnoteReference w:id='2'/></w:r>"
    late = "<w:r><w:endnoteReference w:id='5'/></w:r>"
    star = "<w:r><w:footnoteReference w:customMarkFollows='1' w:id='3'/><w:t>*</w:t></w:r>"
    parts = {
        "footnotes.xml": ("footnotes", part("w:footnotes",
            "<w:footnote w:id='0' w:type='separator'><w:p><w:r><w:separator/></w:r></w:p></w:footnote>"
            f"<w:footnote w:id='2'>{paragraph('<w:r><w:footnoteRef/></w:r>', 'Per ', 'person')}</w:footnote>"
            f"<w:footnote w:id='3'>{paragraph('* Starred')}</w:footnote>")),
        "endnotes.xml": ("endnotes", part("w:endnotes", f"<w:endnote w:id='5'>{paragraph('Law 7')}</w:endnote>")),
        **styles(style("H", "heading 1")),
    }  # fmt: skip
    body = (
        paragraph("Fees", late, properties='<w:pStyle w:val="H"/>')
        + paragraph("The fee", reference, " and", reference, star)
        + table([cell("a"), cell(paragraph("b", late))])
    )  # fmt: skip
    assert list(read_word(body, parts).sections) == [
        Section("Fees\n\n[i] Law 7\n\nThe fee[1] and[2]*\n\n[1] Per person\n\n* Starred\n\na | b[ii]", heading="Fees")
    ]


def test_headers_and_footers_come_last_and_once() -> None:
    """Only those that Word shows, without page numbers and what the text says anyway."""
    pages = field("PAGE", "7")
    parts = {
        "header1.xml": ("header", part("w:hdr", paragraph("Orion Ltd, Lisbon") + paragraph("Manual"))),
        "header2.xml": ("header", part("w:hdr", paragraph("First page only"))),
        "footer1.xml": ("footer", part("w:ftr", paragraph("Page ", pages, " of ", field("NUMPAGES", "9")))),
        "footer2.xml": ("footer", part("w:ftr", paragraph("Confidential") + paragraph("Orion Ltd, Lisbon"))),
        **styles(style("H", "heading 1")),
    }
    first = "<w:headerReference w:type='first' r:id='header2'/>"
    section = (
        "<w:sectPr><w:headerReference w:type='default' r:id='header1'/><w:footerReference r:id='footer1'/>"
        "<w:footerReference w:type='default' r:id='footer2'/>{}</w:sectPr>"
    )
    body = paragraph("Manual", properties='<w:pStyle w:val="H"/>') + section.format(first)
    assert list(read_word(body, parts).sections) == [
        Section("Manual", heading="Manual"),
        Section("Orion Ltd, Lisbon\nConfidential"),
    ]
    assert "First page only" in text_of(section.format(first + "<w:titlePg/>"), parts)


def test_comments_are_left_out() -> None:
    """They are about the document, and no part of it."""
    comments = {
        "comments.xml": ("comments", part("w:comments", f"<w:comment w:id='1'>{paragraph('Really?')}</w:comment>"))
    }
    body = paragraph("<w:commentRangeStart w:id='1'/>", "Fact", "<w:r><w:commentReference w:id='1'/></w:r>")
    assert text_of(body, comments) == "Fact"


def test_a_header_of_many_sections_is_read_once() -> None:
    """Its numbers would otherwise go on counting with each section."""
    header = paragraph("Orion Ltd", properties='<w:pStyle w:val="Item"/>')
    abstract = (
        '<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:start w:val="1"/><w:lvlText w:val="%1."/></w:lvl>'
    )
    numbered = style("Item", "Item", '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>')
    parts = {
        "header1.xml": ("header", part("w:hdr", header)),
        "numbering.xml": ("numbering", part(
            "w:numbering", f'{abstract}</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>')),
        **styles(numbered),
    }  # fmt: skip
    section = "<w:sectPr><w:headerReference r:id='header1'/></w:sectPr>"
    assert text_of(paragraph("Text") + 3 * section, parts) == "Text\n\n1. Orion Ltd"
