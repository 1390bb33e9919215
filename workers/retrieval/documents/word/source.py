"""What the stories of a DOCX share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from workers.retrieval.documents.word.notes import Notes
from workers.retrieval.documents.word.numbering import Numbering
from workers.retrieval.documents.word.package import Package
from workers.retrieval.documents.word.styles import Styles
from workers.retrieval.ports import Document


@dataclass(frozen=True, slots=True)
class Source:
    """A DOCX.

    Attributes:
        package: its parts.
        styles: its styles.
        numbering: its lists.
        notes: its footnotes and endnotes.
        embedded: reads the document to which an element (`w:altChunk`) of a part refers.
    """

    package: Package
    styles: Styles
    numbering: Numbering
    notes: Notes
    embedded: Callable[[str, Element], Document]
