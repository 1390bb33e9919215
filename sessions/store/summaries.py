"""The summary of the turns before a session's window, in the session's record. It is encrypted and decrypted here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import SealError
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.transitions.records import Outdated, write_summary

_log = get_logger(__name__)
SUMMARY: Final = "summary"
DRAFT: Final = "draft"
SUMMARY_FIELDS: Final = (SUMMARY, DRAFT)
"""The fields of the session's record whose values are encrypted."""
_READ: Final = (SUMMARY, "summary_upto", DRAFT, "draft_upto", "summary_by", "summary_chain", "summary_due")


@dataclass(frozen=True, slots=True)
class SummarySoFar:
    """The newest summary of a session.

    Attributes:
        text: empty if there is none yet.
        upto: how many turns it covers.
        by: the turn that wrote it; empty if there is none yet.
        chain: what it continues; empty if no summary is wanted any more.
        due: how many turns the next one must cover for prompts to have it; 0 if that was not asked for.
    """

    text: str = ""
    upto: int = 0
    by: str = ""
    chain: str = ""
    due: int = 0


class SummaryStore:
    """Reads and writes summaries."""

    def __init__(self, scripts: ScriptRunner, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._keyring = keyring
        self._history = HistoryStore(scripts, keyring)

    async def newest(self, keys: SessionKeys) -> SummarySoFar:
        """The newest summary, whether or not prompts have it yet.

        Raises:
            SealError: it cannot be decrypted.
        """
        summary, upto, draft, draft_upto, by, chain, due = await self._scripts.read("HMGET", keys.meta, *_READ)
        field, text, covered = (DRAFT, draft, draft_upto) if draft is not None else (SUMMARY, summary, upto)
        return SummarySoFar(
            self._keyring.open(keys.meta, field, text or b"").decode(),
            int(covered or 0),
            (by or b"").decode(),
            (chain or b"").decode(),
            int(due or 0),
        )

    async def write(
        self, keys: SessionKeys, before: SummarySoFar, by: str, text: str, upto: int, *, complete: bool, usage: bytes
    ) -> bool:
        """Store the summary that continues another one; False if what it covers has changed meanwhile.

        Args:
            by: the turn that wrote it; writing it again changes nothing.
            complete: whether prompts are to have it.
            usage: of that turn (JSON), which counts as the session's.
        """
        call = write_summary(
            keys.pair,
            chain=before.chain,
            by=by,
            after=before.by,
            upto=upto,
            complete=complete,
            text=self._keyring.seal(keys.meta, SUMMARY if complete else DRAFT, text.encode()),
            usage=usage,
        )
        return not isinstance(await self._scripts.run(call), Outdated)

    async def for_fork(self, keys: SessionKeys, target: SessionKeys, turns: Sequence[str]) -> dict[str, str | bytes]:
        """Fields of the record of a fork with these turns: the summary, if it covers the first of them; or none."""
        read = ("summary", "summary_upto", "summary_chain", "summary_version", "history_version")
        text, covered, chain, version, now = await self._scripts.read("HMGET", keys.meta, *read)
        upto = int(covered or 0)
        if text is None or chain is None or version != (now or b"0") or upto > len(turns):
            return {}
        # The fork may be of a branch, or the history may have changed since its turns were read.
        last = await self._history.entries(keys, None, upto - 1, upto - 1)
        if [entry.turn for entry in last] != [turns[upto - 1]]:
            return {}
        sealed = self._keyring.seal(target.meta, SUMMARY, self._keyring.open(keys.meta, SUMMARY, text))
        chain_of_its_own = {"summary_chain": "fork", "summary_version": "0", "summary_to": str(upto)}
        return {SUMMARY: sealed, "summary_upto": str(upto), "summary_asked": "0", **chain_of_its_own}


def open_summary(keyring: KeyRing, keys: SessionKeys, stored: bytes) -> str:
    """The summary in a turn's record, where a script copied it to. One that cannot be decrypted is left out."""
    try:
        return keyring.open(keys.meta, SUMMARY, stored).decode(errors="replace")
    except SealError as error:
        _log.warning("summary_not_opened", session=keys.session_id, error=str(error))
        return ""
