"""Checks of what a message says about its model: which one, with which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sessions.client.arguments.values import json_object
from sessions.errors import BadRequest
from sessions.protocol.text import is_encodable

_MOST_MODELS: Final = 8
_LONGEST_NAME: Final = 256
_LARGEST_SETTINGS: Final = 16 * 1024
_NUMBER: Final = (int, float)
# The settings that all providers share (pydantic-ai's `ModelSettings`). Those of single providers are passed on as they
# are.
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "max_tokens": (int,),
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "top_k": (int,),
    "timeout": _NUMBER,
    "first_event_timeout": _NUMBER,
    "seed": (int,),
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "parallel_tool_calls": (bool,),
    "stop_sequences": (list,),
    "logit_bias": (dict,),
    "extra_headers": (dict,),
}


def models_named(name: str, value: object) -> str | tuple[str, ...] | None:
    """Check the name of a model, or a fallback chain: up to 8 names, of which the first is asked first.

    Raises:
        BadRequest: it is neither.
    """
    if value is None or _is_name(value):
        return value  # type: ignore[return-value] # a string, by `_is_name`
    if isinstance(value, Sequence) and not isinstance(value, str) and 0 < len(value) <= _MOST_MODELS:
        chain = tuple(value)
        if all(map(_is_name, chain)) and len(set(chain)) == len(chain):
            return chain if len(chain) > 1 else str(chain[0])
    raise BadRequest(
        f"{name}={value!r}: use a name such as 'openai:gpt-5', or a list of up to {_MOST_MODELS} different names of "
        "which each is tried after the ones before it failed. To use a model object, register it with the workers "
        "(register_model), and pass the name that it is registered under"
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST_NAME and is_encodable(value)


def model_settings(value: object) -> dict[str, Any] | None:
    """Check the settings of a message's model requests.

    Raises:
        BadRequest: it is not a dict of JSON values, or one of the common settings has a value of the wrong type.
    """
    if value is None:
        return None
    settings = json_object("model_settings", value, limit=_LARGEST_SETTINGS)
    for name, kinds in _KINDS.items():
        setting = settings.get(name)
        if setting is not None and type(setting) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise BadRequest(f"model_settings: {name} is {setting!r}; use a value of type {expected}")
    return settings
