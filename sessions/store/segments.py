"""The oldest entries of a history: many of them together, compressed, in the list `:segments`.

A segment is compressed by a worker, because the store's scripts cannot do it, and swapped in only if the entries are
still those that were read. It may be done by anyone at any time, and by several at once: one succeeds, and positions
stay the same. What needs an entry in the list of entries again has the newest segments unpacked, one after the other.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

from sessions.errors import CorruptRecord
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.transitions import segments as transitions

SEGMENT_ENTRIES: Final = 64
SEGMENT_BYTES: Final = 256 * 1024
"""The most that the entries of a segment have together, before it is compressed; one entry may have more."""
_AT_ONCE: Final = 4
"""How many segments are written after a commit at most: a long history from before there were segments takes many."""
_FORM: Final = b"\x01"
"""How a segment is written; the first byte, before the compressed rest."""


def dump_segment(entries: Sequence[bytes]) -> bytes:
    """Entries, compressed together: a line with their lengths, then one after the other."""
    lengths = json.dumps([len(entry) for entry in entries], separators=(",", ":")).encode()
    return _FORM + zlib.compress(lengths + b"\n" + b"".join(entries))


def load_segment(raw: bytes) -> list[bytes]:
    """The entries of a segment.

    Raises:
        ValueError: it is damaged, or a newer version wrote it.
    """
    if raw[:1] != _FORM:
        raise ValueError(f"a segment of the form {raw[:1]!r}: upgrade this process")
    try:
        lengths, _, joined = zlib.decompress(raw[1:]).partition(b"\n")
    except zlib.error as error:
        raise ValueError(f"a damaged segment: {error}") from error
    entries, start = [], 0
    for length in json.loads(lengths):
        entries.append(joined[start : start + length])
        start += length
    return entries


def stored_entries(
    keyring: KeyRing, keys: SessionKeys, segments: Iterable[bytes], skip: int, count: int, entries: list[bytes]
) -> list[bytes]:
    """Entries that a script found: those in segments are decrypted, those in the list are as they are stored.

    Args:
        skip: how many entries of the segments come before; count: how many there are in all.

    Raises:
        SealError: a segment cannot be decrypted. ValueError: it cannot be read.
    """
    packed = [entry for segment in segments for entry in load_segment(keyring.open(keys.segments, "", segment))]
    return [*packed[skip : skip + count], *entries] if packed else entries


class Segments:
    """Packs and unpacks entries of histories."""

    def __init__(self, scripts: ScriptRunner, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._keyring = keyring

    async def pack(self, keys: SessionKeys) -> int:
        """Write the next segments, as far as the window and open turns allow; returns how many.

        Raises:
            SealError: an entry cannot be decrypted. BackendError: the store did not answer.
        """
        for done in range(_AT_ONCE):
            call = transitions.find_packable((keys.base,), most=SEGMENT_ENTRIES, most_bytes=SEGMENT_BYTES)
            found = await self._scripts.run(call)
            if isinstance(found, transitions.Nothing):
                return done
            segment = await asyncio.to_thread(self._segment, keys, found.entries)
            swap = transitions.pack_history(
                keys.pair, positions=found.positions, packed=found.packed, count=len(found.entries), segment=segment
            )
            if not isinstance(await self._scripts.run(swap), transitions.WroteSegment):
                return done
        return _AT_ONCE

    def _segment(self, keys: SessionKeys, entries: Sequence[bytes]) -> bytes:
        opened = [self._keyring.open(keys.history, "", entry) for entry in entries]
        return self._keyring.seal(keys.segments, "", dump_segment(opened))

    def _entries(self, keys: SessionKeys, segment: bytes) -> list[bytes]:
        try:
            return load_segment(self._keyring.open(keys.segments, "", segment))
        except ValueError as error:
            raise CorruptRecord(f"the history of session {keys.session_id!r} cannot be read: {error}") from error

    async def unpack(self, keys: SessionKeys, at: int) -> None:
        """Put the entries from a position on back into the list of entries.

        Raises:
            SealError: a segment cannot be decrypted. CorruptRecord: it cannot be read. BackendError: the store did not
                answer.
        """
        while True:
            packed = (await self._scripts.run(transitions.read_entries((keys.base,), start=1, stop=0))).packed
            if packed <= at:
                return
            last = transitions.read_entries((keys.base,), start=packed - 1, stop=packed - 1)
            found = await self._scripts.run(last)
            if found.packed != packed or not found.segments:  # somebody else packs or unpacks
                continue
            entries = self._entries(keys, found.segments[0])
            sealed = [self._keyring.seal(keys.history, "", entry) for entry in entries]
            swap = transitions.unpack_history(keys.pair, positions=found.positions, packed=packed, entries=sealed)
            await self._scripts.run(swap)

    async def without(self, keys: SessionKeys, at: int) -> tuple[str, bytes]:
        """The segment that has the entry at a position, without it, and the state of the history it was read in.

        Returns:
            No bytes if the segment has no other entry, or if no segment has it.

        Raises:
            As `unpack`.
        """
        found = await self._scripts.run(transitions.read_entries((keys.base,), start=at, stop=at))
        if not found.segments:
            return found.positions, b""
        entries = self._entries(keys, found.segments[0])
        del entries[found.skip]
        segment = self._keyring.seal(keys.segments, "", dump_segment(entries)) if entries else b""
        return found.positions, segment
