"""A model request on its way from the agent to the provider: what is added to it, and what is left out.

The journal knows requests by what the agent asked. What is done here comes after that, so a replay that returns
recorded responses needs none of it.
"""

from __future__ import annotations

from pydantic_ai.exceptions import FallbackExceptionGroup, ModelAPIError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from broker_config.telemetry import get_logger
from sessions.errors import UnsupportedMedia
from sessions.protocol.message import MediaPart
from workers.engine.attachments import files_of, refuses_files, takes, with_files
from workers.engine.context_window import is_too_long, prompts_in, shortened
from workers.engine.prompt_cache import takes_cache_points
from workers.engine.recalled import with_recalled
from workers.engine.scope import TurnScope
from workers.engine.summary import with_summary

_log = get_logger(__name__)


class RequestShape:
    """Shapes one request of a turn."""

    def __init__(self, scope: TurnScope, model: Model) -> None:
        self._scope = scope
        self._model = model

    async def first(self, messages: list[ModelMessage], settings: ModelSettings | None) -> list[ModelMessage]:
        """What the provider is asked first: with summary, memories and passages, as the worker's hooks leave it."""
        recalled = self._scope.turn.recalled.behind_message
        if recalled:
            marked = takes_cache_points(self._model, settings)
            messages = with_recalled(messages, self._scope.turn.turn_id, recalled, mark_cache=marked)
        messages = with_summary(messages, self._scope.turn.summary)
        return self._fitting(await self._scope.hooks.before_model(messages))

    async def with_files(self, messages: list[ModelMessage]) -> list[ModelMessage]:
        """The messages as they are sent: with the bytes of their files.

        Raises:
            UnsupportedMedia: the model says that it cannot take a file of the message that this turn answers.
        """
        scope, model = self._scope, self._model
        if scope.state.files is None:
            return messages
        for part in files_of(messages):
            if part.file_id in scope.own_files and not takes(model, part):
                raise scope.abort(
                    UnsupportedMedia(
                        f"model {model.model_name!r} does not take {part.media_type!r} ({part.described}). "
                        f"{UnsupportedMedia.__doc__}"
                    )
                )

        def can_take(part: MediaPart) -> bool:
            return takes(model, part) and (not scope.files_refused or part.file_id in scope.own_files)

        return await with_files(messages, scope.state.files.read, can_take, scope.file_bytes)

    def _fitting(self, messages: list[ModelMessage]) -> list[ModelMessage]:
        """Shorten a request as often as earlier requests of this run had to be."""
        for _ in range(self._scope.shortened):
            messages = self._shortened(messages) or messages
        return messages

    def _shortened(self, messages: list[ModelMessage]) -> list[ModelMessage] | None:
        return shortened(messages, self._scope.turn.turn_id, self._scope.result_bytes)

    def reduced(
        self, messages: list[ModelMessage], error: ModelAPIError | FallbackExceptionGroup
    ) -> list[ModelMessage]:
        """The messages for an immediate retry, after the provider refused a request for its length or its files.

        Without this, every later message of the session would be refused too. The response is recorded under the
        fingerprint of the full request, so that a replay is not refused again.

        Raises:
            ModelAPIError, FallbackExceptionGroup: `error` has another cause, or nothing is left to leave out.
        """
        if self._leave_out_files(messages, error):
            return messages
        less = self._shortened(messages) if is_too_long(error) else None
        if less is None:
            raise error
        self._scope.shortened += 1
        self._scope.halved += prompts_in(less) < prompts_in(messages)
        _log.warning("context_too_long", turn=self._scope.turn.turn_id, left_out=len(messages) - len(less))
        return less

    def _leave_out_files(self, messages: list[ModelMessage], error: ModelAPIError | FallbackExceptionGroup) -> bool:
        """From now on send a note instead of the files of earlier turns and of tools; False if that changes nothing."""
        scope = self._scope
        others = [part for part in files_of(messages) if part.file_id not in scope.own_files]
        if scope.files_refused or not others or not refuses_files(error):
            return False
        scope.files_refused = True
        _log.warning("files_refused", turn=scope.turn.turn_id, left_out=len(others))
        return True
