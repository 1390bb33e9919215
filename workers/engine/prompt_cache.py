"""Providers' prompt caches: they are used unless somebody turns them off.

Each request of a session begins with the one before it. Some providers cache that by themselves; others need marks,
which pydantic-ai sets if the setting `cache` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, cast
from urllib.parse import urlsplit

from pydantic_ai.models import Model
from pydantic_ai.settings import CacheConfig, ModelSettings

_KEY: Final = "openai_prompt_cache_key"
_TAKE_KEYS: Final = ("api.openai.com", ".openai.azure.com")  # of others, some refuse a field that they do not know


def cache_settings(
    session_id: str, model: object, settings: Mapping[str, Any] | None, *, marked: bool = False
) -> ModelSettings:
    """The settings that use the provider's cache, as far as nobody else has set them.

    Args:
        session_id: requests with the same key go to machines that have the session's prompt.
        settings: those of the model, the agent and its capabilities.
        marked: the messages have marks of their own. Then their end, which no other turn's request has, gets none:
            that would be paid for, and providers take only four.
    """
    models = list(models_of(model))
    own = [settings or {}, *(each.settings or {} for each in models)]
    ours: dict[str, Any] = {}
    if not any("cache" in each for each in own):
        ours["cache"] = CacheConfig(messages=False) if marked else True
    if models and all(map(_takes_key, models)) and not any(_KEY in each for each in own):
        ours[_KEY] = blake2b(session_id.encode(), digest_size=16).hexdigest()
    return cast(ModelSettings, ours)


def takes_cache_points(model: Model, settings: ModelSettings | None) -> bool:
    """Whether marks for the provider's cache are wanted in the messages of a request, and the model takes them."""
    given = settings or {}
    if not given.get("cache") or any("_cache" in name and name != _KEY for name in given):
        return False  # a provider's own setting replaces the general one
    return any(each.profile.get("supports_cache", False) for each in models_of(model))


def models_of(model: object) -> Iterator[Model]:
    """The models of a fallback chain, or the one model, without wrappers; none for a name."""
    if (wrapped := getattr(model, "wrapped", None)) is not None:
        yield from models_of(wrapped)
    elif chain := getattr(model, "models", None):
        for each in chain:
            yield from models_of(each)
    elif isinstance(model, Model):
        yield model


def _takes_key(model: Model) -> bool:
    host = urlsplit(model.base_url or "").hostname or ""
    return model.system in ("openai", "azure") and host.endswith(_TAKE_KEYS)
