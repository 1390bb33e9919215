"""Answers of a type: from any type that pydantic validates to the schema the model is given, and back to an object."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from sessions.errors import BadRequest, OutputInvalid

_FIELD: Final = "result"


class OutputType:
    """What answers must be.

    Models are asked for JSON objects; another type (a list, a number, a union) travels in the field `result` of one.
    """

    def __init__(self, output_type: Any) -> None:
        try:
            self._adapter = TypeAdapter(output_type)
            schema = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as error:
            raise BadRequest(
                f"output_type {output_type!r} is no type that pydantic can put into JSON: {error}"
            ) from error
        self._wrapped = schema.get("type") != "object"
        self.schema: dict[str, Any] = _wrap(schema) if self._wrapped else schema
        self.name = str(getattr(output_type, "__name__", "output"))

    @classmethod
    def of(cls, output_type: Any) -> OutputType | None:
        """None for plain text."""
        return None if output_type is None or output_type is str else cls(output_type)

    def load(self, value: Any, turn_id: str) -> Any:
        """The object for a stored answer.

        Raises:
            OutputInvalid: it does not fit, as when the type has changed since.
        """
        try:
            return self._adapter.validate_python(value[_FIELD] if self._wrapped else value)
        except (ValueError, KeyError, TypeError) as error:
            raise OutputInvalid(f"turn {turn_id!r} answered, but not with the output type: {error}") from error


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    inner = dict(schema)
    definitions = inner.pop("$defs", None)
    outer = {"type": "object", "properties": {_FIELD: inner}, "required": [_FIELD], "additionalProperties": False}
    return {**outer, "$defs": definitions} if definitions else outer
