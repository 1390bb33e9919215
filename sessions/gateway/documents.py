"""Documents in a request: as JSON or as a form, buffered on disk until there is room to send them on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import Any, Final, Self, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from sessions.client.arguments.documents import Address, Text
from sessions.client.arguments.values import CHARSET
from sessions.errors import BadRequest, DocumentTooLarge
from sessions.gateway.parameters import BASE, TEXT, WEBHOOK
from sessions.gateway.strict_json import Body, parse_json

AT_ONCE: Final = 2
"""Documents that are in memory at a time; others wait on disk."""
_IN_MEMORY: Final = 1024 * 1024
_FIELD_BYTES: Final = 64 * 1024
Said = TypeVar("Said", bound="DocumentFields")
_OCTETS: Final = "application/octet-stream"


class DocumentFields(Body):
    """The fields that accompany a document, in either form."""

    name: str | None = Field(
        None, min_length=1, max_length=512, description="The document's name; adding the same name again replaces it."
    )
    metadata: dict[str, Any] | None = Field(None, description="For filters.")
    scope: str | None = Field(
        None,
        description="Whose it is: `session` (default), `user`, or the name of a shared base.",
        json_schema_extra=BASE,
    )
    content_type: str | None = Field(None, max_length=256, description="Needed if the name does not show it.")
    charset: str | None = Field(
        None,
        max_length=64,
        pattern=CHARSET,
        description="Of a text file, such as `windows-1251`; by default the one that it declares, or that is detected.",
    )
    webhook: str | None = Field(None, **WEBHOOK)


class NewDocument(DocumentFields):
    """A text, or a URL that a worker fetches."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["text"]}, {"required": ["url"]}],
            "examples": [
                {"text": "Policy: trains are booked in second class.", "name": "policy.txt"},
                {"url": "https://example.com/handbook.pdf", "scope": "handbook", "metadata": {"year": 2026}},
            ],
        }
    )

    text: str = Field("", min_length=1, json_schema_extra=TEXT)
    url: str = Field(
        "",
        min_length=1,
        max_length=8192,
        description="http or https, if workers may fetch URLs.",
        json_schema_extra={"pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s\x00-\x20\x7f]+$"},
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.text) == bool(self.url):
            raise ValueError("send either `text` or `url`")
        return self


FORM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "minLength": 1,
            "description": "PDF, DOCX, HTML, Markdown, text, CSV, JSON, mail.",
        },
        "name": {"type": "string", "minLength": 1, "maxLength": 512, "description": "By default the file's name."},
        "metadata": {"type": "object", "description": "As JSON."},
        "scope": {"type": "string", **BASE},
        "content_type": {"type": "string", "maxLength": 256},
        "charset": {"type": "string", "maxLength": 64, "pattern": CHARSET},
        "webhook": {"type": "string", "maxLength": 2048, **WEBHOOK["json_schema_extra"]},
    },
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Document:
    """A document in the form that `asubmit_knowledge` takes."""

    content: bytes | Text | Address
    options: dict[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def received(request: Request, limit: int) -> AsyncIterator[_Form | _Body]:
    """A document that was received completely; `read` it when there is room.

    Raises:
        BadRequest, RequestValidationError: it is not valid. DocumentTooLarge: more than `limit` bytes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        try:
            form = await request.form(max_files=1, max_fields=9, max_part_size=_FIELD_BYTES)
        except HTTPException as error:
            if error.status_code == 400:
                raise BadRequest(f"the form cannot be parsed: {error.detail}") from error
            raise
        try:
            yield _Form(form, limit)
        finally:
            await form.close()
    elif kind == "application/json" or kind.endswith("+json"):
        with SpooledTemporaryFile(max_size=_IN_MEMORY) as body:
            async for chunk in request.stream():
                body.write(chunk)
            yield _Body(body)
    else:
        raise BadRequest(
            f"Content-Type {kind or 'absent'!r}: send multipart/form-data with `file`, or application/json"
        )


class _Body:
    """A document in JSON."""

    def __init__(self, body: SpooledTemporaryFile[bytes]) -> None:
        self._body = body

    async def read(self) -> Document:
        """The document."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Document:
        self._body.seek(0)
        try:
            value = parse_json(self._body.read())
        except ValueError as error:
            raise BadRequest(f"the body is not JSON: {error}") from error
        body = _checked(NewDocument, value)
        content = Address(body.url) if body.url else Text(body.text)
        return Document(content, body.model_dump(exclude={"text", "url"}))


class _Form:
    """A file with fields."""

    def __init__(self, form: FormData, limit: int) -> None:
        fields = dict(form.multi_items())
        if len(fields) != len(form.multi_items()):
            raise BadRequest("the form has a duplicate field: send one document at a time")
        file = fields.pop("file", None)
        if not isinstance(file, UploadFile):
            raise BadRequest("the form has no `file`: send the document as that part, with a file name")
        self._file = file
        if (size := file.size or 0) > limit:
            raise DocumentTooLarge(f"the file has {size:,} bytes, the limit is {limit:,}: send it in parts")
        if "metadata" in fields:
            try:
                fields["metadata"] = parse_json(str(fields["metadata"]).encode())
            except ValueError as error:
                raise BadRequest(f"the field `metadata` is not JSON: {error}") from error
        self._said = _checked(DocumentFields, fields)

    async def read(self) -> Document:
        """The document."""
        told = None if self._file.content_type == _OCTETS else self._file.content_type
        options = self._said.model_dump()
        options["name"] = options["name"] or re.split(r"[\\/]", self._file.filename or "")[-1][:512] or None
        options["content_type"] = options["content_type"] or told
        return Document(await self._file.read(), options)


def _checked(kind: type[Said], value: object) -> Said:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False, include_input=False)]
        raise RequestValidationError(found) from None
