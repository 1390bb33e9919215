"""Searches and their answers as messages between two processes, over the store's sharded channels.

    caller  -- id, caller, sealed search -->  <D of the process>:searches
    process -- id, sealed result ---------->  <D of the caller>:answers     (id alone: it leaves the search unanswered)

The store keeps nothing of them: a message reaches a process that listens at that moment, or it is gone. So nothing has
to expire, and a caller learns at once that nobody listens. It must not depend on an answer; `sessions.client.searches`
says what it does without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import SealError
from sessions.store.channels import Channels
from sessions.store.keys import answers_channel, searches_channel
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing

_ID: Final = 32  # hex digits, of a search and of a process
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReceivedSearch:
    """A search as it arrived: its id, the process that waits for the answer, and what to search for."""

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

    async def listen_for_answers(
        self, receive: Callable[[str, bytes | None], None], resumed: Callable[[], None]
    ) -> None:
        """Receive answers to this process's searches, from now on: id and result, None if it was left unanswered.

        Args:
            resumed: called after answers may have been lost.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        channel = answers_channel(self.address)

        def answered(message: bytes) -> None:
            search, sealed = message[:_ID].decode("ascii", "replace"), message[_ID:]
            receive(search, self._opened(channel, search, sealed) if sealed else None)

        await self._channels.subscribe(channel, answered, resumed)

    async def ask(self, process: str, search: str, body: bytes) -> bool:
        """Send a search to a process. False if it does not listen.

        Raises:
            StoreUnavailable, BackendError: the store did not answer; the process may have the search nevertheless.
        """
        channel = searches_channel(process)
        sealed = self._keyring.seal(channel, search, body)
        return await self._scripts.publish(channel, f"{search}{self.address}".encode() + sealed) > 0

    async def listens(self, process: str) -> bool:
        """Whether a process is there to receive searches.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        return await self._scripts.publish(searches_channel(process), b"") > 0

    # --- the process that searches --------------------------------------------------------------------------

    async def listen_for_searches(self, receive: Callable[[ReceivedSearch], None]) -> None:
        """Receive searches, from now on.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        channel = searches_channel(self.address)

        def asked(message: bytes) -> None:
            if len(message) <= 2 * _ID:  # a caller looks whether this process is there
                return
            search, caller = (message[start : start + _ID].decode("ascii", "replace") for start in (0, _ID))
            body = self._opened(channel, search, message[2 * _ID :])
            receive(ReceivedSearch(search, caller, body or b""))

        await self._channels.subscribe(channel, asked, lambda: None)

    async def answer(self, search: ReceivedSearch, result: bytes | None) -> None:
        """Send the result of a search to its caller; None: it is left unanswered.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        channel = answers_channel(search.caller)
        sealed = b"" if result is None else self._keyring.seal(channel, search.id, result)
        await self._scripts.publish(channel, search.id.encode() + sealed)

    def _opened(self, channel: str, search: str, sealed: bytes) -> bytes | None:
        try:
            return self._keyring.open(channel, search, sealed)
        except SealError as error:
            _log.warning("direct_search_not_opened", error=str(error))
            return None
