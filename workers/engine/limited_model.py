"""Models whose provider has refused a call for its rate limit: the fleet calls them no more until it may.

Each model of a fallback chain is asked about by itself, so that a chain goes on to its next model at once.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, ModelQuotaExceededError, ModelRateLimitError
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from workers.engine.ports import ModelLimit, ModelLimits

_ATTRIBUTE: Final = "_sessionfleet_limit"
_CREDENTIALS: Final = ("api_key", "auth_token", "_api_client.api_key", "_client_wrapper._token", "token")
"""Where the providers' clients have the key: OpenAI, Anthropic and Groq; Anthropic; Google; Cohere; Hugging Face."""
_TOO_MANY: Final = 429


class ModelHeldBack(ModelRateLimitError):
    """The model was not asked, because its provider wants no calls now."""


def limited(model: Model, limits: ModelLimits) -> Model:
    """The model, or the chain of models, to be asked within the fleet's limits."""
    if isinstance(model, FallbackModel):
        chain = copy.copy(model)
        chain.models = [limited(each, limits) for each in model.models]
        return chain
    if isinstance(model, WrapperModel):
        wrapper = copy.copy(model)
        wrapper.wrapped = limited(model.wrapped, limits)
        return wrapper
    return LimitedModel(model, limits)


def limit_of(error: ModelAPIError) -> ModelLimit | None:
    """The limiter that this error has to do with, if any."""
    limit: ModelLimit | None = getattr(error, _ATTRIBUTE, None)
    return limit


class LimitedModel(WrapperModel):
    """One model of one provider. It is not called while the provider wants no calls."""

    def __init__(self, wrapped: Model, limits: ModelLimits) -> None:
        super().__init__(wrapped)
        self._limits = limits
        self._digest = digest_of(wrapped)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Make a request, unless the provider wants none now."""
        async with self._within_limits():
            return await self.wrapped.request(messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Make a streamed request, unless the provider wants none now."""
        live = self.wrapped.request_stream(messages, model_settings, model_request_parameters, run_context)
        async with self._within_limits(), live as stream:
            yield stream

    @asynccontextmanager
    async def _within_limits(self) -> AsyncGenerator[None]:
        """Do not begin while the provider wants no calls, and note if it refuses this one, also within its stream."""
        wait = await self._limits.wait(self._digest)
        if wait > 0:
            name = self.wrapped.model_name
            message = f"model {name!r}: its provider has refused calls for its rate limit, and wants none now"
            raise _marked(ModelHeldBack(name, message, retry_after=wait), ModelLimit(self._digest, asked=False))
        try:
            yield
        except ModelAPIError as error:
            if _is_rate_limit(error) and error.retry_after:
                _marked(error, ModelLimit(self._digest, asked=True))
                await self._limits.close(self._digest, error.retry_after)
            raise


def _is_rate_limit(error: ModelAPIError) -> bool:
    if isinstance(error, ModelQuotaExceededError):  # waiting does not help
        return False
    return isinstance(error, ModelRateLimitError) or (
        isinstance(error, ModelHTTPError) and error.status_code == _TOO_MANY
    )


def _marked(error: ModelAPIError, limit: ModelLimit) -> ModelAPIError:
    setattr(error, _ATTRIBUTE, limit)
    return error


def digest_of(model: Model) -> str:
    """A digest of the provider, its address, the model's name and the API key, as far as the client shows it."""
    digest = blake2b(digest_size=16)
    for text in (model.system, model.base_url or "", model.model_name, _credential(model)):
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()


def _credential(model: Model) -> str:
    client = getattr(model, "client", None)
    for name in _CREDENTIALS:
        try:
            value = attrgetter(name)(client)
        except AttributeError:
            continue
        if isinstance(value, str):
            return value
    return ""
