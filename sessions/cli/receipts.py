"""What `sessionfleet knowledge add` tells about the documents: a table, the skipped files, the errors, the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sessions.cli.output import FEW, cell, enumerated, print_error, print_json, print_table, say

_COLUMNS: Final = ("source", "status", "kind", "pages", "chunks", "bytes")
_ORDER: Final = ("added", "duplicate", "replaced", "unchanged", "skipped", "failed")


def print_receipts(receipts: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """The receipts of documents: JSON with all of them, or what a person wants to know."""
    if as_json:
        print_json(receipts)
        return
    many = len(receipts) > FEW
    shown = [r for r in receipts if r["status"] not in ("failed", "skipped") and not (many and _is_unchanged(r))]
    if shown:
        columns = (*_COLUMNS, "same content as") if any(r.get("same_as") for r in shown) else _COLUMNS
        rows = [[cell(r.get("same_as" if c == "same content as" else c)) for c in columns] for r in shown]
        print_table(columns, rows, spare=("bytes", "kind"))
    _print_skipped(receipts)
    for receipt in receipts:
        if "error" in receipt:
            print_error(f"{receipt['source']}: {receipt['error'].removeprefix(repr(receipt['source'])).lstrip()}")
        for warning in receipt.get("warnings") or ():
            say(f"warning: {receipt['source']}: {warning}", stderr=True)
    if many:
        counts = Counter(str(receipt["status"]) for receipt in receipts)
        said = ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
        say(f"{len(receipts)} files: {said}", stderr=True)


def _is_unchanged(receipt: Mapping[str, Any]) -> bool:
    return bool(receipt["status"] == "unchanged")


def _print_skipped(receipts: Sequence[Mapping[str, Any]]) -> None:
    """The skipped files, one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for receipt in receipts:
        if receipt["status"] == "skipped":
            reasons.setdefault(receipt["reason"], []).append(receipt["source"])
    for reason, names in reasons.items():
        say(f"skipped, {reason}: {enumerated(names)}", stderr=True)
