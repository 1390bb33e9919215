"""Options of commands about memory and knowledge that take JSON: metadata, and filters on them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sessions.errors import BadRequest

Metadata = Annotated[str | None, typer.Option(help="A JSON object that is stored with each of them, for filters.")]
Filters = Annotated[
    str | None, typer.Option(help='Conditions on the metadata, as JSON: \'{"year": {"$gte": 2023}, "lang": "en"}\'.')
]


def json_option(name: str, text: str | None) -> dict[str, Any]:
    """The value of such an option; empty if it is missing.

    Raises:
        BadRequest: it is not a JSON object.
    """
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise BadRequest(f"{name} {text!r}: use a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise BadRequest(f"{name} {text!r}: use a JSON object")
    return value
