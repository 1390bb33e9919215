"""The parts of a DOCX and the relationships between them (Open Packaging Conventions)."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.documents.word.archive import Archive
from workers.retrieval.documents.word.names import is_strict, qn, transitional

_RELATIONSHIP: Final = qn("rel:Relationship")
_ID: Final = qn("r:id")
_DOCUMENT: Final = qn("w:document")
_USUAL_MAIN_PART: Final = "word/document.xml"
_OTHER_OFFICE: Final = {"workbook": "a spreadsheet", "presentation": "a presentation"}


@dataclass(frozen=True, slots=True)
class Relation:
    """What a part refers to.

    Attributes:
        kind: the last word of the relationship's type, which is the same in strict documents: 'footnotes'.
        target: the name of another part, or an address outside of the document.
        external: whether it is outside.
    """

    kind: str
    target: str
    external: bool


class Package:
    """The parts of a DOCX."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._relations: dict[str, dict[str, Relation]] = {}

    def main_part(self) -> tuple[str, Element]:
        """The name and the root of the part with the document's text.

        Raises:
            Refusal: there is none, or it belongs to another program than Word.
        """
        targets = [relation.target for relation in self.relations("").values() if relation.kind == "officeDocument"]
        name = next((name for name in [*targets, _USUAL_MAIN_PART] if name in self._archive), None)
        root = None if name is None else self.xml(name)
        if name is None or root is None:
            raise Refusal(Reason.CORRUPT, "is not a valid DOCX (it has no main part); save it again and send that file")
        if root.tag != _DOCUMENT:
            local = root.tag.rpartition("}")[2]
            what = _OTHER_OFFICE.get(local, f"an office document of another kind ({local!r})")
            raise Refusal(Reason.UNSUPPORTED, f"is {what}, not a DOCX; save it as DOCX or PDF and send that")
        return name, root

    def xml(self, name: str) -> Element | None:
        """The root of a part, with the names of transitional documents; None if there is no such part.

        Raises:
            ElementTree.ParseError: it is not valid XML.
        """
        if name not in self._archive:
            return None
        root = ElementTree.fromstring(self._archive.read_xml(name))  # noqa: S314 - `read_xml` refuses entities
        if is_strict(root.tag):
            _make_transitional(root)
        return root

    def bytes_of(self, name: str) -> bytes | None:
        """A part's contents; None if there is no such part."""
        return self._archive.read(name) if name in self._archive else None

    def relations(self, part: str) -> dict[str, Relation]:
        """What a part refers to, by the ids that it uses; '' for the package itself."""
        if part not in self._relations:
            folder, file = posixpath.split(part)
            root = self.xml(posixpath.join(folder, "_rels", f"{file}.rels"))
            found = [] if root is None else root.iter(_RELATIONSHIP)
            self._relations[part] = {each.get("Id", ""): _relation(each, folder) for each in found}
        return self._relations[part]

    def target(self, part: str, element: Element, attribute: str = _ID) -> str | None:
        """The name of what an element of a part refers to. If it is outside of the document, there is no such part."""
        relation = self.relations(part).get(element.get(attribute, ""))
        return None if relation is None else relation.target

    def related(self, part: str, kind: str) -> tuple[str, Element] | None:
        """The name and root of the first part of a kind that a part refers to."""
        for relation in self.relations(part).values():
            if relation.kind == kind and not relation.external and (root := self.xml(relation.target)) is not None:
                return relation.target, root
        return None


def _relation(element: Element, folder: str) -> Relation:
    target = element.get("Target", "")
    external = element.get("TargetMode") == "External"
    if not external:
        target = posixpath.normpath(posixpath.join("/", folder, unquote(target.replace("\\", "/")))).lstrip("/")
    return Relation(element.get("Type", "").rpartition("/")[2], target, external)


def _make_transitional(root: Element) -> None:
    for element in root.iter():
        element.tag = transitional(element.tag)
        if any(map(is_strict, element.attrib)):
            element.attrib = {transitional(name): value for name, value in element.attrib.items()}
