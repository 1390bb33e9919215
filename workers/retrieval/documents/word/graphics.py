"""The text of drawings: SmartArt, charts, text art, shapes, and what is said in place of pictures."""

from __future__ import annotations

import re
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.plain import flow, one_line
from workers.retrieval.documents.table import Table, table_lines
from workers.retrieval.documents.word.names import qn
from workers.retrieval.documents.word.package import Package

_DATA, _CHART_ID = qn("r:dm"), qn("r:id")
_POINT, _POINT_TYPE, _DIAGRAM_TEXT = qn("dgm:pt"), "type", qn("dgm:t")
_PARAGRAPH, _TEXT, _BREAK = qn("a:p"), qn("a:t"), qn("a:br")
_TITLE, _SERIES, _NAME = qn("c:title"), qn("c:ser"), qn("c:tx")
_CATEGORIES, _VALUES = (qn("c:cat"), qn("c:xVal")), (qn("c:val"), qn("c:yVal"))
_CACHED, _INDEX, _VALUE = qn("c:pt"), "idx", qn("c:v")
_ART, _STRING = qn("v:textpath"), "string"
_PICTURE, _ALTERNATIVE = qn("wp:docPr"), "descr"
# These are no descriptions of a picture: where it came from, and a remark of the program that described it.
_ADDRESS: Final = re.compile(
    r"(https?:|file:|cid:|_x0000_)\S*|([a-z]:\\|\\\\).*|.*\.(png|jpe?g|gif|bmp|tiff?|emf|wmf|svg)", re.IGNORECASE
)
_REMARK: Final = re.compile(r" ?(Description automatically generated.*|AI-generated content may be incorrect\.?)")


def graphic_text(element: Element, package: Package, part: str) -> str:
    """The text of a paragraph of a shape, of text art, of a picture, or of a diagram or chart that a part refers to."""
    if element.tag == _PARAGRAPH:
        return _paragraph(element)
    if element.tag == _PICTURE:
        text = _REMARK.sub("", one_line(element.get(_ALTERNATIVE, "")))
        return "" if _ADDRESS.fullmatch(text) else text
    if element.tag == _ART:
        return one_line(element.get(_STRING, ""))
    is_diagram = element.tag == qn("dgm:relIds")
    target = package.target(part, element, _DATA if is_diagram else _CHART_ID)
    root = None if target is None else package.xml(target)
    if root is None:
        return ""
    return _diagram(root) if is_diagram else _chart(root)


def _diagram(root: Element) -> str:
    """The texts of a diagram's points in the order of its outline, each in a line."""
    points = (point for point in root.iter(_POINT) if point.get(_POINT_TYPE, "node") in ("node", "asst"))
    texts = (
        " ".join(filter(None, map(_paragraph, text.iter(_PARAGRAPH))))
        for point in points
        if (text := point.find(_DIAGRAM_TEXT)) is not None
    )
    return "\n".join(filter(None, texts))


def _chart(root: Element) -> str:
    """A chart's titles, and its values as a table."""
    titles = [" ".join(filter(None, map(_paragraph, title.iter(_PARAGRAPH)))) for title in root.iter(_TITLE)]
    series = list(root.iter(_SERIES))
    categories = _cached(next((found for each in series if (found := _first(each, _CATEGORIES)) is not None), None))
    columns = [_cached(_first(each, _VALUES)) for each in series]
    names = [" ".join(_cached(each.find(_NAME)).values()) for each in series]
    numbers = sorted(set(categories).union(*columns))
    rows = [[categories.get(number, ""), *(column.get(number, "") for column in columns)] for number in numbers]
    lines = table_lines(Table([["", *names], *rows], header_rows=1 if any(names) else 0))
    return "\n".join([*filter(None, titles), *lines])


def _cached(values: Element | None) -> dict[int, str]:
    """Values of a chart by their place, as it last showed them."""
    if values is None:
        return {}
    return {
        int(index): one_line(value.text or "")
        for point in values.iter(_CACHED)
        if (value := point.find(_VALUE)) is not None and (index := point.get(_INDEX, "")).isdecimal()
    }


def _first(element: Element, tags: tuple[str, ...]) -> Element | None:
    return next((found for tag in tags if (found := element.find(tag)) is not None), None)


def _paragraph(element: Element) -> str:
    return flow(
        "".join(
            "\n" if each.tag == _BREAK else each.text or "" for each in element.iter() if each.tag in (_TEXT, _BREAK)
        )
    )
