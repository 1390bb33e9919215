"""Searches and their answers as messages between two processes, over the store's sharded channels.

    caller  -- id, caller, sealed search -->  <D of the process>:searches   (without a search: is it being worked on?)
    process -- id, kind, sealed result ---->  <D of the caller>:answers

The store keeps nothing of them: a message reaches a process that listens at that moment, or it is gone. So nothing has
to expire, and a caller learns at once that nobody listens. It must not depend on an answer; `sessions.client.searches`
says what it does without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import SealError
from sessions.store.channels import Channels
from sessions.store.keys import answers_channel, searches_channel
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing

_ID: Final = 32  # hex digits, of a search and of a process
_log = get_logger(__name__)


class AnswerKind(StrEnum):
    """What a process says of a search."""

    RESULT = "="
    WORKING = "."
    LEFT = "-"
    """It does not answer it: the lane must."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it arrived. `result` is there if that is its kind."""

    search: str
    kind: AnswerKind
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class ReceivedSearch:
    """A search as it arrived: its id, the process that waits for the answer, and what to search for.

    The body is empty if the caller asks whether the search is being worked on, or if it cannot be decrypted.
    """

    id: str
    caller: str
    body: bytes


class SearchExchange:
    """Sends and receives searches and answers. Values are encrypted and decrypted here.

    Args:
        address: 32 hex digits that no other process has.
    """

    def __init__(self, scripts: ScriptRunner, channels: Channels, keyring: KeyRing, address: str) -> None:
        self.address = address
        self._scripts = scripts
        self._channels = channels
        self._keyring = keyring

    # --- the caller -----------------------------------------------------------------------------------------

    async def listen_for_answers(self, receive: Callable[[Answer], None]) -> None:
        """Receive answers to this process's searches, from now on.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        channel = answers_channel(self.address)

        def answered(message: bytes) -> None:
            receive(self._read_answer(channel, message))

        await self._channels.subscribe(channel, answered, lambda: None)

    async def ask(self, process: str, search: str, body: bytes) -> bool:
        """Send a search to a process. False if it does not listen.

        Args:
            body: what to search for; empty to ask whether the process works on the search that it has.

        Raises:
            StoreUnavailable, BackendError: the store did not answer; the process may have the search nevertheless.
        """
        channel = searches_channel(process)
        sealed = self._keyring.seal(channel, search, body) if body else b""
        return await self._scripts.publish(channel, f"{search}{self.address}".encode() + sealed) > 0

    def _read_answer(self, channel: str, message: bytes) -> Answer:
        head, sealed = message[: _ID + 1].decode("ascii", "replace"), message[_ID + 1 :]
        search, kind = head[:_ID], head[_ID:]
        if kind == AnswerKind.WORKING:
            return Answer(search, AnswerKind.WORKING)
        result = self._opened(channel, search, sealed) if kind == AnswerKind.RESULT else b""
        return Answer(search, AnswerKind.RESULT if result else AnswerKind.LEFT, result)

    # --- the process that searches --------------------------------------------------------------------------

    async def listen_for_searches(self, receive: Callable[[ReceivedSearch], None]) -> None:
        """Receive searches, from now on.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        channel = searches_channel(self.address)

        def asked(message: bytes) -> None:
            search, caller = (message[start : start + _ID].decode("ascii", "replace") for start in (0, _ID))
            receive(ReceivedSearch(search, caller, self._opened(channel, search, message[2 * _ID :])))

        await self._channels.subscribe(channel, asked, lambda: None)

    async def answer(self, search: ReceivedSearch, kind: AnswerKind, result: bytes = b"") -> None:
        """Send an answer to the caller of a search.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        channel = answers_channel(search.caller)
        sealed = self._keyring.seal(channel, search.id, result) if result else b""
        await self._scripts.publish(channel, f"{search.id}{kind}".encode() + sealed)

    def _opened(self, channel: str, search: str, sealed: bytes) -> bytes:
        """The decrypted value; empty if it cannot be decrypted."""
        try:
            return self._keyring.open(channel, search, sealed)
        except SealError as error:
            _log.warning("direct_search_not_opened", error=str(error))
            return b""
