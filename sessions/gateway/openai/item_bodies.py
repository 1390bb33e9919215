"""Items of the Responses API as clients send them."""

from __future__ import annotations

from typing import Any, Final

from sessions.errors import BadRequest
from sessions.gateway.openai.items import Item
from sessions.gateway.strict_json import Lenient

_NEEDS: Final = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "mcp_approval_response": ("approval_request_id", "approve"),
    "reasoning": (),
    "mcp_call": (),
    "mcp_approval_request": (),
}
"""The types of items that mean something here, and what each must have."""
_ROLES: Final = ("user", "assistant", "system", "developer")


class PartBody(Lenient):
    """A part of a message's content, or of a function's output."""

    type: str
    text: str = ""
    refusal: str | None = None
    image_url: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: dict[str, Any] | None = None


class ItemBody(Lenient):
    """An item."""

    type: str = "message"
    role: str | None = None
    content: str | list[PartBody] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[PartBody] | None = None
    summary: list[PartBody] | None = None
    approval_request_id: str | None = None
    approve: bool | None = None
    reason: str | None = None

    def item(self, param: str) -> Item:
        """As it is worked with.

        Raises:
            BadRequest: it cannot be used.
        """
        needs = _NEEDS.get(self.type)
        if needs is None:
            raise BadRequest(
                f"items of the type {self.type[:80]!r} are not supported here", param=param, code="unsupported_value"
            )
        if missing := next((name for name in needs if getattr(self, name) is None), None):
            code = "missing_required_parameter"
            raise BadRequest(f"an item of the type {self.type!r} needs {missing!r}", param=param, code=code)
        if self.type == "message" and self.role not in _ROLES:
            raise BadRequest(f"there is no role {self.role!r}", param=param, code="invalid_value")
        item = self.model_dump(exclude_none=True)
        return {**item, "summary": item.get("summary", [])} if self.type == "reasoning" else item


def items_of(given: str | list[ItemBody], param: str) -> list[Item]:
    """The items of a request; a text is a message of the user.

    Raises:
        BadRequest: one of them cannot be used.
    """
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return [body.item(param) for body in given]
