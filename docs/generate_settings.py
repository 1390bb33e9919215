"""Writes docs/settings.md from the fields of `Settings`: `python docs/generate_settings.py`. A test compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from broker_config.settings import Settings, variable

PAGE = Path(__file__).with_name("settings.md")
HEAD = """\
# Settings

Made by `python docs/generate_settings.py` from `broker_config/settings.py`; do not edit.

Settings are environment variables, read once per process. A variable that begins with `SESSIONFLEET_` and is none
of these is an error, so that a misspelt one is noticed. Lists are separated by commas. Times are in seconds.

Providers' keys and addresses (`OPENAI_API_KEY`, `OPENAI_BASE_URL`, `ANTHROPIC_API_KEY`, ...) keep their usual names
and are read by the providers' own clients, in the workers. A key alone never selects a paid model:
`SESSIONFLEET_MODEL` or `Agent(model=)` does.

Set `SESSIONFLEET_PARTITIONS`, `SESSIONFLEET_LEASE` and `SESSIONFLEET_TENANT` alike for all clients and workers of a
deployment. The partition count is recorded in the store when a deployment is born, and checked at connect.

| Variable | Default | Allowed | What it is |
| --- | --- | --- | --- |
"""
UNSAID = {"log_level": "How much is logged."}


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    description = field.description or UNSAID[name]
    return f"| `{variable(name)}` | {_default(field)} | {_allowed(field)} | {description} |\n"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined or value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return f"`{int(value)}`"
    if isinstance(value, tuple):
        return f"`{','.join(f'{part:g}' if isinstance(part, float) else part for part in value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _allowed(field: FieldInfo) -> str:
    if field.annotation is bool:
        return "`0` `1`"
    if choices := getattr(field.annotation, "__args__", ()):
        words = [choice for choice in choices if isinstance(choice, str)]
        if words:
            return " ".join(f"`{word}`" for word in words)
    limits = []
    for limit in field.metadata:
        match limit:
            case Gt(gt=bound):
                limits.append(f"> {bound:g}")
            case Ge(ge=bound):
                limits.append(f"≥ {bound:g}")
            case Le(le=bound):
                limits.append(f"≤ {bound:g}")
            case _ if getattr(limit, "pattern", None):
                limits.append(f"`{limit.pattern}`")
    return ", ".join(limits)


if __name__ == "__main__":
    PAGE.write_text(page())
