"""Files in the results of tools: stored in the session, so that the journal has references to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from pydantic_ai.messages import ToolReturn

from workers.engine.attachments import reference
from workers.engine.ports import SessionFiles

_PLAIN = str | int | float | bool | None | BaseModel


async def with_stored_files(value: Any, files: SessionFiles | None) -> Any:
    """A tool's result with a reference in the place of each file in it; the same object if there is none.

    Files are `Image`, `Document`, `Audio`, `StoredFile`, and pydantic-ai's `BinaryContent`.

    Raises:
        ToolError: a file cannot be stored.
    """
    if files is None:
        return value
    if isinstance(value, ToolReturn):
        shown, content = await _stored(value.return_value, files), await _stored(value.content, files)
        unchanged = shown is value.return_value and content is value.content
        return value if unchanged else replace(value, return_value=shown, content=content)
    return await _stored(value, files)


async def _stored(value: Any, files: SessionFiles) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        inner = {key: await _stored(each, files) for key, each in value.items()}
        return inner if any(inner[key] is not each for key, each in value.items()) else value
    if isinstance(value, list | tuple):
        items = [await _stored(each, files) for each in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    part = await files.stored(value)
    return value if part is None else reference(part)
