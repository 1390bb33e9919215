"""Output types: from any type that pydantic validates to the model's JSON schema, and from an answer to an object."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from sessions.errors import BadRequest, OutputInvalid

_FIELD: Final = "result"


class OutputType:
    """The type of an agent's answers.

    Models return JSON objects, so a value of another type (a list, a number, a union) is wrapped in an object with the
    field `result`.
    """

    def __init__(self, output_type: Any) -> None:
        try:
            self._adapter = TypeAdapter(output_type)
            schema = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as error:
            raise BadRequest(
                f"output_type {output_type!r} is not a type that pydantic can represent in JSON: {error}"
            ) from error
        self._wrapped = schema.get("type") != "object"
        self.schema: dict[str, Any] = _wrap(schema) if self._wrapped else schema
        self.name = str(getattr(output_type, "__name__", "output"))

    @classmethod
    def of(cls, output_type: Any) -> OutputType | None:
        """The output type; None for plain text."""
        return None if output_type is None or output_type is str else cls(output_type)

    def load(self, value: Any, turn_id: str) -> Any:
        """The object in a stored answer.

        Raises:
            OutputInvalid: it does not match the type, for instance because the type has changed since.
        """
        try:
            return self._adapter.validate_python(value[_FIELD] if self._wrapped else value)
        except (ValueError, KeyError, TypeError) as error:
            raise OutputInvalid(f"the answer of turn {turn_id!r} does not match the output type: {error}") from error


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    inner = dict(schema)
    definitions = inner.pop("$defs", None)
    outer = {"type": "object", "properties": {_FIELD: inner}, "required": [_FIELD], "additionalProperties": False}
    return {**outer, "$defs": definitions} if definitions else outer
