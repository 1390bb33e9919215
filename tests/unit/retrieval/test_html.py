"""HTML is read as a reader sees it, also what accordions, tabs and frames show, and nothing that is not text."""

from __future__ import annotations

import pytest

from workers.retrieval.documents.html import read_html
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.refusal import Reason, Refusal

LIMITS = DocumentLimits()


def sections(page: str) -> list[tuple[str | None, str]]:
    return [(section.heading, section.text) for section in read_html(page, LIMITS).sections]


def text(page: str) -> str:
    return "\n\n".join(section.text for section in read_html(page, LIMITS).sections)


BUTTONS = {
    "in a heading": (
        '<h1>FAQ</h1><h2><button aria-expanded="false">Refunds?</button></h2><div>30 days.</div><button>Buy</button>',
        [("FAQ > Refunds?", "FAQ\n\nRefunds?\n\n30 days.")],
    ),
    "around a heading": ("<button><h3>Refunds?</h3></button><div>30 days.", [("Refunds?", "Refunds?\n\n30 days.")]),
    "that controls a panel": (
        "<h2>FAQ</h2><button aria-controls=a aria-expanded=false>One?</button><div id=a hidden>First.</div>"
        "<button data-bs-toggle=collapse data-bs-target='#b'>Two?</button><div id=b style='display:none'>Second.</div>"
        "<p>after",
        [("FAQ > One?", "FAQ\n\nOne?\n\nFirst."), ("FAQ > Two?", "Two?\n\nSecond."), ("FAQ", "after")],
    ),
    "by its class": (
        '<button class="collapsible">Size?</button><div style="display: none">Large.</div>',
        [(None, "Size?\n\nLarge.")],
    ),
    "for more of a text": (
        "<p>Text <button aria-controls=m aria-expanded=false>Read more</button><div id=m hidden>The rest.</div>",
        [(None, "Text\n\nThe rest.")],
    ),
    "for a menu": (
        "<button aria-expanded=false aria-controls=n>Menu</button><nav id=n>Home</nav>"
        "<button aria-haspopup=true aria-expanded=false>Account</button><p>seen",
        [(None, "seen")],
    ),
}


@pytest.mark.parametrize(("page", "expected"), BUTTONS.values(), ids=BUTTONS)
def test_a_button_is_text_where_it_opens_something(page: str, expected: list[tuple[str | None, str]]) -> None:
    """The question of an accordion is the heading of its answer, which may be hidden; 'Buy' is a control."""
    assert sections(page) == expected


def test_a_summary_is_the_heading_of_its_details() -> None:
    """What follows the details is not below it."""
    page = "<details><summary>What?</summary>This.<details><summary>How?</summary>So.</details></details><p>after"
    assert sections(page) == [("What?", "What?\n\nThis."), ("What? > How?", "How?\n\nSo."), (None, "after")]


def test_a_summary_without_details_is_text() -> None:
    """What follows it is not below it."""
    assert sections("<details><summary>A</summary></details><h2>B</h2>b") == [("A", "A"), ("B", "B\n\nb")]


def test_xhtml_may_close_elements_at_once() -> None:
    """For HTML, `<title/>` begins a title that the rest of the page belongs to."""
    page = '<?xml version="1.0"?><html><head><title/><script src="x"/></head><body><p>a<![CDATA[ < b]]><a id="c"/>d'
    assert text(page) == "a < bd"


def test_a_tab_is_the_heading_of_its_panel() -> None:
    """Only one panel is visible before a click, and all of them are text."""
    page = (
        "<ul role=tablist><li><a role=tab href='#w' data-toggle=tab>Windows</a><li><a role=tab href='#l'>Linux</a></ul>"
        "<div id=w role=tabpanel>exe</div><div id=l role=tabpanel hidden>deb</div>"
        "<b role=tab id=t>BSD</b><div id=p role=tabpanel aria-labelledby=t style='display:none'>pkg</div>"
    )
    assert sections(page) == [("Windows", "Windows\n\nexe"), ("Linux", "Linux\n\ndeb"), ("BSD", "BSD\n\npkg")]


def test_an_element_with_the_role_of_a_heading_is_one() -> None:
    """Its level is that of the attribute."""
    page = "<h1>A</h1><div role=heading aria-level=2>B</div>b<span role=heading aria-level=3>C</span>c"
    assert sections(page) == [("A > B", "A\n\nB\n\nb"), ("A > B > C", "C\n\nc")]


SEEN = {
    "alt": ("See <img src=x alt='Plan of pump P-7'>now<img alt='a'><img alt='b'>", "See Plan of pump P-7 now a b"),
    "alt that says nothing": ("x <img alt='IMG_1.jpg'><img alt='logo'><img alt=''><img>", "x"),
    "image map": ("<map><area alt='North wing'></map>", "North wing"),
    "noscript": ("<body><noscript><p>All the text</p></noscript>", "All the text"),
    "noscript that asks for scripts": ("<p>x<noscript>Please enable JavaScript</noscript>", "x"),
    "noscript with a picture": ("<p>x<img alt='A heron'><noscript><img alt='A heron'></noscript>", "x A heron"),
    "hidden": ("<p hidden>a</p><p style='color:red;display : none'>b</p><p aria-hidden=true>c</p><p>d", "d"),
    "hidden until a script has run": ("<body style='visibility:hidden'><p>x", "x"),
    "hidden answer of a list": ("<dl><dt>Term<dd style='display:none'>Meaning</dl>", "Term\nMeaning"),
    "dialog": ("<dialog>no</dialog><dialog open>yes</dialog>", "yes"),
    "template": ("<template>no</template>yes", "yes"),
    "shadow root": ("<x-a><template shadowrootmode=open><p>in<x-b><template shadowrootmode=open>deep</template></x-b>"
                    "</template></x-a>", "in\n\ndeep"),
    "frame": ("<iframe srcdoc='&lt;p>in &amp;amp; out'>no</iframe>x", "in & out\n\nx"),
    "custom elements": ("<x-card>one</x-card><x-card>two</x-card>", "one two"),
    "links side by side": ("<a>One</a><a>Two</a><label>A</label><input value=no><label>B</label>", "One Two A B"),
    "letters of a word": ("<span>O</span>nce up<wbr>on a&shy;gain", "Once upon again"),
    "line breaks": ("a<br>b<br/>c<hr>d", "a\nb\nc\n\nd"),
    "controls": ("<textarea>a</textarea><select><option>b</select><button>c</button>d", "d"),
    "consent": ("<div id=onetrust-banner-sdk>Cookies?</div><div class=cookie-consent-open><main>x</main></div>", "x"),
    "footer": ("<main>x</main><footer>Open from 9 to 5</footer>", "x\n\nOpen from 9 to 5"),
    "drawing": ("<svg><defs><text>no</text></defs><g><text>Start</text><text>End</text></g></svg>", "Start\nEnd"),
    "icon": ("<svg aria-hidden=true><title>no</title></svg>x", "x"),
    "formulas": ("<math alttext='x^2'><mi>x</mi></math>, <math><mi>y</mi><annotation encoding='application/x-tex'>y_1"
                 "</annotation></math>, <math><mi>z</mi><mo>=</mo><mn>2</mn></math>", "x^2 , y_1 , z = 2"),
    "raised": ("10<sup>6</sup>, H<sub>2</sub>O, 1<sup>st</sup>, word<sup><a>1</a></sup>", "10^6, H2O, 1st, word[1]"),
    "numbered list": ("<ol start=3><li>c<li><p>d</p><li value=9>e</ol><ul><li>x<li></ul>", "3. c\n4. d\n\n9. e\n\n- x"),
    "links to a heading": ("<h2>Install<a class=headerlink href='#i'>\xb6</a></h2>x", "Install\n\nx"),
    "pronunciation": ("<ruby>\u6f22<rp>(</rp><rt>kan</rt><rp>)</rp>\u5b57<rt>ji</rt></ruby>", "\u6f22\u5b57"),
    "links to edit": ("<h2>Life<span class=mw-editsection>[edit]</span></h2>x", "Life\n\nx"),
    "bars": ("<p>a ||<p>| b |", "a ||\n\n| b |"),
    "code": ("<pre>if x:\n    y</pre>and <code>a  b</code>", "if x:\n    y\n\nand a b"),
    "entities": ("&lt;b&gt; &amp;amp; &#8364;&nbsp;5", "<b> &amp; \u20ac 5"),
    "data": ("<script type='application/ld+json'>{}</script><meta name=description content=no>x", "x"),
}  # fmt: skip


@pytest.mark.parametrize(("page", "expected"), SEEN.values(), ids=SEEN)
def test_a_page_is_what_a_reader_sees(page: str, expected: str) -> None:
    """Neither is text lost nor are words joined."""
    assert text(page) == expected


TABLES = {
    "header": ("<thead><tr><td>Country<td>Fee</thead><tr><td>France<td>86", "Country: France; Fee: 86"),
    "cells of a header": ("<tr><th>Name<th>Work<tr><td>Ada<td>Computing", "Name: Ada; Work: Computing"),
    "merged cells": (
        "<caption>Sales</caption><tr><th rowspan=2>Region<th colspan=2>2023<tr><th>Q1<th>Q2<tr><td colspan=3>Europe"
        "<tr><td rowspan=2>North<td>1<td>2<tr><td>3<td>4",
        "Sales\n\nEurope\nRegion: North; 2023 Q1: 1; 2023 Q2: 2\nRegion: North; 2023 Q1: 3; 2023 Q2: 4",
    ),
    "names of rows": ("<tr><th>Born<td>1815<td>London<tr><th>Died<td>1852", "Born: 1815 | London\nDied: 1852"),
    "properties": ("<tr><td>Name:<td>Ada<tr><td>Work:<td>Computing", "Name: Ada\nWork: Computing"),
    "lists in cells": ("<tr><th>Plan<th>Has<tr><td>A<td><ul><li>x<li>y</ul>", "Plan: A; Has: - x - y"),
    "hidden rows": ("<tr><th>A<th>B<tr hidden><td>1<td>2<tr><td>3<td>4", "A: 3; B: 4"),
    "a table in a cell": ("<tr><td>x<td><table><tr><th>A<th>B<tr><td>1<td>2</table>y", "x\n\nA: 1; B: 2\n\ny"),
    "layout": ("<tr><td><h2>One</h2>a<td><h2>Two</h2>b", "One\n\na\n\nTwo\n\nb"),
    "numbers of lines": ("<tr><td class='x linenos'><pre>1\n2</pre><td><pre>a\nb</pre>", "a\nb"),
    "numbered code": ("<tr><td><pre>1\n2</pre><td><pre>if x:\n  y</pre>", "1\n2\n\nif x:\n  y"),
    "a header alone": ("<tr><th>a<th>b", "a | b"),
    "bars in cells": ("<tr><th>Sign<th>Is<tr><td>||<td>or<tr><td>a |<td>|", "Sign: ||; Is: or\nSign: a |; Is: |"),
    "bars in cells of a layout": ("<tr><td><h2>Or</h2>a ||<td><td>| b ||", "Or\n\na || | | | b ||"),
    "rows without cells": ("<tr><tr><td><tr><td>a<td>b<tr><td>c<td>d", "a | b\nc | d"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), TABLES.values(), ids=TABLES)
def test_a_table_of_data_names_its_columns(rows: str, expected: str) -> None:
    """One that only arranges the page is read part by part."""
    assert text(f"<table>{rows}</table>") == expected


def test_a_frame_in_a_layout_is_parsed_once() -> None:
    """A table is looked at twice, whether it has data and then for its parts; the number of frames is limited."""
    frames = "".join(f"<iframe srcdoc='&lt;p>frame {number}.'></iframe>" for number in range(90))
    found = text(f"<table><tr><td><h2>Frames</h2>{frames}<td>x</table>")
    assert [number for number in range(90) if f"frame {number}." not in found] == []


def test_spans_without_end_cost_no_more_than_the_page() -> None:
    """A cell may claim to cover 60,000 rows and 1,000 columns."""
    page = "<table><tr>" + "<th rowspan=60000 colspan=1000>x" * 200 + "<tr><td>1" * 5_000 + "</table>"
    assert len(text(page)) < 4_000_000


@pytest.mark.parametrize(
    "page",
    [
        "<noscript>You need to enable JavaScript to run this app.</noscript><div id=root></div>",
        "<title>Shop</title><p>Loading ...</p><div id=app></div><script>1</script>",
    ],
)
def test_a_page_that_scripts_make_is_refused(page: str) -> None:
    """'Loading' is no document; the error says what to do."""
    with pytest.raises(Refusal, match="without JavaScript") as caught:
        read_html(page, LIMITS)
    assert caught.value.reason is Reason.EMPTY
