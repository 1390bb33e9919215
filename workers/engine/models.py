"""Resolves model names to pydantic-ai models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import cast, get_args

from pydantic_ai.models import KnownModelName, Model, OpenAIChatCompatibleProvider, infer_model
from pydantic_ai.models.fallback import FallbackModel

from sessions.errors import TurnConfigurationError
from workers.engine.offline import offline_model

OFFLINE = "offline"

# The package that each provider's adapter needs; all other providers use OpenAI's protocol. Checking for the package
# instead of importing the adapter saves 85 MB and 3 s in a worker that uses only one of them.
_PACKAGES = {
    "anthropic": "anthropic",
    "bedrock": "boto3",
    "cohere": "cohere",
    "google": "google.genai",
    "google-cloud": "google.genai",
    "google-decisions": "google.genai",
    "groq": "groq",
    "huggingface": "huggingface_hub",
    "mistral": "mistralai",
    "typesafe": "typesafe_sdk",
    "xai": "xai_sdk",
}
_UNLISTED = ("azure-responses", "openai-responses")


@lru_cache(maxsize=1)
def provider_prefixes() -> tuple[str, ...]:
    """The provider prefixes whose adapter's package is installed."""
    known = {name.partition(":")[0] for name in get_args(KnownModelName.__value__)} - {"test"}
    compatible = get_args(OpenAIChatCompatibleProvider.__value__)
    return tuple(sorted(prefix for prefix in {*known, *compatible, *_UNLISTED} if _installed(prefix)))


def _installed(prefix: str) -> bool:
    package = _PACKAGES.get(prefix.removeprefix("gateway/"), "openai")
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False


class ModelResolver:
    """Resolves each name once and caches the model, which owns the connections to its provider.

    A provider's client is bound to the event loop that first used it; a worker process has only one loop.
    """

    def __init__(self, registered: Mapping[str, Model]) -> None:
        self._registered = registered
        self._resolved: dict[str, Model] = {}

    def resolve(self, name: str) -> Model:
        """The model with this name: `offline`, a registered name, or `provider:model`.

        Raises:
            TurnConfigurationError: the name is unknown, the package is not installed, or the API key is not set.
        """
        model = self._registered.get(name) or self._resolved.get(name)
        if model is None:
            model = self._resolved[name] = offline_model() if name == OFFLINE else _infer(name, self._registered)
        return model

    def resolve_chain(self, names: Sequence[str]) -> Model:
        """The model with this name; for several, one that asks each model if the ones before it failed.

        A broken connection, a timeout before the first token, and any error response lead to the next model. A stream
        that has begun does not, because its text was already sent.

        Raises:
            TurnConfigurationError: as `resolve`.
        """
        first, *others = map(self.resolve, names)
        return FallbackModel(first, *others) if others else first


def _without_retries(model: Model) -> None:
    """Disable the retries of the vendor's client: they would multiply ours and block the turn's slot unnoticed."""
    client = getattr(model, "client", None)
    if getattr(client, "max_retries", None) is not None:
        client.max_retries = 0  # type: ignore[union-attr]


def _infer(name: str, registered: Mapping[str, Model]) -> Model:
    if ":" not in name:
        known = ", ".join(sorted({*registered, OFFLINE}))
        raise TurnConfigurationError(
            f"model {name!r} is not known to this worker: use 'provider:model' such as 'openai:gpt-5', or one of its "
            f"registered models ({known}); register one with register_model in a module of SESSIONFLEET_IMPORTS"
        )
    try:
        model = infer_model(name)
        # By default pydantic-ai accepts an OpenAI stream without a finish reason: half an answer would be kept.
        cast(dict[str, object], model.profile)["openai_chat_streaming_requires_finish_reason"] = True
        _without_retries(model)
        return model
    except Exception as error:
        why = str(error).partition(" To try Pydantic AI")[0]  # the rest is advice for trying it without a key
        raise TurnConfigurationError(
            f"model {name!r} cannot be used on this worker: {why} - packages and API keys must be set up for the "
            f"worker; choose another model with Agent(model=...) or SESSIONFLEET_MODEL"
        ) from error
