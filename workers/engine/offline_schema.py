"""A small valid instance of a JSON schema, for the offline model's typed answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
}
_DEPTH = 32

Schema = Mapping[str, Any]


def example(schema: Schema, text: str) -> dict[str, Any]:
    """An instance with the required properties; phrases like `<property> is <value>` in `text` give their values."""
    value = _Example(schema, text).of(schema, "value", 0)
    return value if isinstance(value, dict) else {"value": value}


class _Example:
    def __init__(self, root: Schema, text: str) -> None:
        self._root = root
        self._text = text

    def of(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return next((v for v in schema["enum"] if str(v).lower() in self._text.lower()), schema["enum"][0])
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                options = [option for option in schema[word] if option.get("type") != "null"]
                return self.of((options or schema[word])[0], name, depth + 1)
        return self._typed(schema, name, depth)

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            target: Any = self._root
            for key in str(schema["$ref"]).lstrip("#/").split("/"):
                target = target.get(key, {})
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
        for part in schema.get("allOf", ()):
            schema = {**self._resolved(part), **{k: v for k, v in schema.items() if k != "allOf"}}
        return schema

    def _typed(self, schema: Schema, name: str, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((item for item in kind if item != "null"), "null")
        if kind == "object":
            fields = schema.get("properties", {})
            return {key: self.of(fields.get(key, {}), key, depth + 1) for key in schema.get("required", ())}
        if kind == "array":
            items = schema.get("prefixItems") or [schema.get("items", {})] * schema.get("minItems", 0)
            return [self.of(item, name, depth + 1) for item in items]
        if kind in ("integer", "number"):
            return self._number(schema, name, whole=kind == "integer")
        return {"boolean": False, "null": None}.get(kind) if kind != "string" else self._string(schema, name)

    def _number(self, schema: Schema, name: str, *, whole: bool) -> float:
        low, high = _bounds(schema, step=1 if whole else 1e-6)
        stated = self._stated(name, r"-?\d+(?:\.\d+)?")
        for found in ([stated] if stated else []) + _NUMBER.findall(self._text):
            value = float(found)
            if low <= value <= high and (not whole or value.is_integer()):
                return int(value) if whole else value
        value = min(max(0, low), high)
        return int(value) if whole else value

    def _string(self, schema: Schema, name: str) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._stated(name, r"[\w@.+-]*\w") or self._text.partition("\n")[0].strip() or name
        text = text[: schema.get("maxLength", 200)]
        return text.ljust(schema.get("minLength", 0), ".")

    def _stated(self, name: str, value: str) -> str | None:
        words = re.escape(name).replace("_", "[ _]")
        match = re.search(rf"\b{words}\b\W*(?:is|=|:|was)?\W*({value})", self._text, re.IGNORECASE)
        return match[1] if match else None


def _bounds(schema: Schema, step: float) -> tuple[float, float]:
    low = max(schema.get("minimum", float("-inf")), schema.get("exclusiveMinimum", float("-inf")) + step)
    high = min(schema.get("maximum", float("inf")), schema.get("exclusiveMaximum", float("inf")) - step)
    return low, high
