"""The files of a session: images, documents and audio that messages and tool results refer to.

A file is stored once per session, under an id that is derived from its content. Its bytes are stored in pieces, so that
neither a client nor the store is busy with a whole file at once. A file that no turn uses expires by itself; one that a
turn uses lives as long as the session.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final

from broker_config.settings import Settings
from sessions.errors import CorruptRecord, FileTooLarge, InvalidFile, TooManyFiles, UnknownFile
from sessions.protocol.access import refused
from sessions.protocol.message import MediaKind, MediaPart, kind_of
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.transitions import files as transitions
from sessions.store.transitions.shared import Missing, OtherOwner

PIECE_BYTES: Final = 256 * 1024
_TRIES: Final = 3
_ID: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a session. A message may contain it again, without another upload.

    Attributes:
        id: derived from its content: the same content has the same id in the session.
        size: in bytes.
        added_at: when it was uploaded first.
    """

    id: str
    name: str
    media_type: str
    size: int
    added_at: datetime

    @property
    def kind(self) -> MediaKind:
        """What it is to a model: `image`, `document` or `audio`."""
        return kind_of(self.media_type)

    @property
    def part(self) -> MediaPart:
        """The file as a part of a message."""
        return MediaPart(type=self.kind, file_id=self.id, name=self.name, media_type=self.media_type, size=self.size)


class FileContent:
    """A file's bytes before they are stored: read twice, once for the id and once for the pieces.

    Args:
        source: the bytes, or an open file, which the caller closes.
    """

    def __init__(self, source: IO[bytes], name: str, media_type: str) -> None:
        self._source = source
        self.name = name
        self.media_type = media_type
        self.size = 0
        self.sha256 = ""

    async def measure(self, limit: int) -> None:
        """Read the file once, to find its size and its digest.

        Raises:
            FileTooLarge: it has more than `limit` bytes. InvalidFile: it is empty.
        """
        await asyncio.to_thread(self._measure, limit)

    def _measure(self, limit: int) -> None:
        digest, size = hashlib.sha256(), 0
        self._source.seek(0)
        while piece := self._source.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            if size > limit:
                raise FileTooLarge(
                    f"{self.name!r} has more than {limit:,} bytes, the limit: send a smaller file, or raise "
                    "SESSIONFLEET_FILE_LIMIT_BYTES"
                )
        if not size:
            raise InvalidFile(f"{self.name!r} is empty: there is nothing to send")
        self.size, self.sha256 = size, digest.hexdigest()

    @property
    def pieces(self) -> int:
        """How many pieces it has."""
        return -(-self.size // PIECE_BYTES)

    def piece(self, number: int) -> bytes:
        """A piece of the measured file.

        Raises:
            InvalidFile: the file has become shorter since.
        """
        self._source.seek(number * PIECE_BYTES)
        found = self._source.read(min(PIECE_BYTES, self.size - number * PIECE_BYTES))
        if len(found) != min(PIECE_BYTES, self.size - number * PIECE_BYTES):
            raise InvalidFile(f"{self.name!r} changed while it was read: send it again")
        return found


class FileStore:
    """Reads and writes the files of sessions. Details and pieces are encrypted and decrypted here."""

    def __init__(self, scripts: ScriptRunner, client: Any, settings: Settings, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._client = client
        self._settings = settings
        self._keyring = keyring

    # --- write ------------------------------------------------------------------------------------------

    async def measure(self, content: FileContent) -> None:
        """Find a file's size and digest.

        Raises:
            FileTooLarge: it is larger than SESSIONFLEET_FILE_LIMIT_BYTES. InvalidFile: it is empty.
        """
        await content.measure(self._settings.file_limit_bytes)

    async def add(
        self,
        keys: SessionKeys,
        content: FileContent,
        *,
        user_id: str | None,
        ttl: float | None,
        turn: str | None = None,
    ) -> StoredFile:
        """Store a file that was measured, unless the session has it already; it expires unless a turn uses it.

        Args:
            ttl: seconds that the session is kept after its last use; None leaves what is set.
            turn: the open turn that adds it, whoever may write to the session by now.

        Raises:
            SessionOwnerError: the session belongs to another user. TooManyFiles: nothing was written.
            UnknownFile: the session was deleted meanwhile, or the turn ended.
            StoreFull, StoreUnavailable, BackendError.
        """
        file_id = await self._id_of(keys, content)
        stored = StoredFile(file_id, content.name, content.media_type, content.size, datetime.now(UTC))
        for _ in range(_TRIES):  # its pieces may have expired while they were sent
            if await self._listed(keys, stored, content, user_id, ttl, turn):
                return stored
            try:
                await self._send(keys, file_id, content)
            except BaseException:
                await self._discard(keys, file_id, content)
                raise
        raise UnknownFile(f"file {content.name!r} was deleted while it was uploaded: send it again")

    async def _id_of(self, keys: SessionKeys, content: FileContent) -> str:
        """The id under which the session has this content, or will have it.

        With encryption it is keyed: a plain digest would confirm a correctly guessed content.
        """
        digest = content.sha256
        possible = (*self._keyring.digests(digest.encode()), digest) if self._keyring.ids else (digest,)
        if len(possible) == 1:
            return digest
        there = await self._scripts.read("HMGET", keys.files, *possible)
        return next((each for each, raw in zip(possible, there, strict=True) if raw is not None), possible[0])

    async def _listed(
        self,
        keys: SessionKeys,
        file: StoredFile,
        content: FileContent,
        user_id: str | None,
        ttl: float | None,
        turn: str | None,
    ) -> bool:
        """List the file; returns whether all its bytes are there already."""
        s = self._settings
        call = transitions.add_file(
            keys.pair,
            file=file.id,
            user=user_id,
            turn=turn,
            session_ttl_ms=None if ttl is None else int(ttl * 1000),
            size=file.size,
            pieces=content.pieces,
            details=self._keyring.seal(keys.files, file.id, _dumped(file)),
            unused_ms=int(s.file_unused_ttl * 1000),
            most=s.files_limit,
            most_bytes=s.files_limit_bytes,
        )
        match await self._scripts.run(call):
            case transitions.FileListed(complete=complete):
                return complete
            case transitions.FilesFull(count=count, bytes=size):
                raise TooManyFiles(
                    f"session {keys.session_id!r} has {count} files of {size:,} bytes, and with {file.name!r} "
                    f"({file.size:,} bytes) it would have more than {s.files_limit} or than {s.files_limit_bytes:,} "
                    "bytes: delete some, or raise SESSIONFLEET_FILES_LIMIT or SESSIONFLEET_FILES_LIMIT_BYTES"
                )
            case OtherOwner():
                raise refused(keys.session_id, user_id)
            case Missing():
                raise UnknownFile(f"file {file.name!r} was not stored: its turn has ended, or was deleted")

    async def _send(self, keys: SessionKeys, file_id: str, content: FileContent) -> None:
        digest, key = hashlib.sha256(), keys.file(file_id)
        for number in range(content.pieces):
            piece = await asyncio.to_thread(content.piece, number)
            digest.update(piece)
            sealed = await asyncio.to_thread(self._keyring.seal, key, str(number), piece)
            call = transitions.add_file_piece(keys.pair, file=file_id, number=number, piece=sealed)
            if isinstance(await self._scripts.run(call), Missing):
                return
        if digest.hexdigest() != content.sha256:
            raise InvalidFile(f"{content.name!r} changed while it was read: send it again")

    async def _discard(self, keys: SessionKeys, file_id: str, content: FileContent) -> None:
        """Remove what was sent of a file, so that a full store gets its memory back; if it fails, it expires."""
        try:
            raw = await self._scripts.read("HGET", keys.files, file_id)
            if raw is not None and _state(raw).unused_until:
                await self._scripts.run(transitions.remove_file(keys.pair, file=file_id, user=None))
        except Exception:  # noqa: BLE001 - the error that stopped the upload is the one to raise
            return

    async def remove(self, keys: SessionKeys, file_id: str, user_id: str | None) -> bool:
        """Remove a file with its bytes; returns whether it was there.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        if not _ID.match(file_id):
            return False
        reply = await self._scripts.run(transitions.remove_file(keys.pair, file=file_id, user=user_id))
        if isinstance(reply, OtherOwner):
            raise refused(keys.session_id, user_id)
        return reply.found

    # --- read -------------------------------------------------------------------------------------------

    async def listed(self, keys: SessionKeys) -> list[StoredFile]:
        """The session's files, the oldest first; without those that are still being uploaded, and expired ones."""
        with translated():
            raw = await self._client.hgetall(keys.files)
            entries = {name.decode(): value for name, value in raw.items()}
            async with self._client.pipeline(transaction=False) as pipe:
                for file_id in entries:
                    pipe.hlen(keys.file(file_id))
                there = await pipe.execute() if entries else []
        found = [
            self._details(keys, file_id, entry)
            for (file_id, entry), pieces in zip(entries.items(), there, strict=True)
            if _state(entry).pieces == pieces
        ]
        return sorted(found, key=lambda file: (file.added_at, file.id))

    async def details(self, keys: SessionKeys, file_id: str) -> StoredFile:
        """A file's details.

        Raises:
            UnknownFile: the session does not have it.
        """
        entry = await self._entry(keys, file_id)
        if _state(entry).pieces != await self._scripts.read("HLEN", keys.file(file_id)):
            raise unknown_file(keys, file_id)
        return self._details(keys, file_id, entry)

    async def read(self, keys: SessionKeys, file_id: str) -> AsyncGenerator[bytes]:
        """A file's bytes, piece by piece.

        Raises:
            UnknownFile: the session does not have it, or it was removed meanwhile.
        """
        entry, key = await self._entry(keys, file_id), keys.file(file_id)
        for number in range(_state(entry).pieces):
            sealed = await self._scripts.read("HGET", key, number)
            if sealed is None:
                raise unknown_file(keys, file_id)
            yield await asyncio.to_thread(self._keyring.open, key, str(number), sealed)

    async def content(self, keys: SessionKeys, file_id: str) -> bytes:
        """A file's bytes, all at once.

        Raises:
            UnknownFile: the session does not have it.
        """
        return b"".join([piece async for piece in self.read(keys, file_id)])

    async def _entry(self, keys: SessionKeys, file_id: str) -> bytes:
        # A name of another form must not become a part of a key.
        entry = await self._scripts.read("HGET", keys.files, file_id) if _ID.match(file_id) else None
        if entry is None:
            raise unknown_file(keys, file_id)
        return bytes(entry)

    def _details(self, keys: SessionKeys, file_id: str, entry: bytes) -> StoredFile:
        state = _state(entry)
        try:
            stored = json.loads(self._keyring.open(keys.files, file_id, state.details))
            return StoredFile(file_id, stored["name"], stored["media_type"], state.size, _time(stored["added"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptRecord(f"the details of file {file_id!r} cannot be read: {error!r}") from error

    # --- copies -----------------------------------------------------------------------------------------

    async def copy(self, keys: SessionKeys, to: SessionKeys, copy: str, within: int) -> None:
        """Store a session's files for a session that `create_session` is about to create from them.

        Args:
            copy: identifies this copy; within: seconds after which it is dropped if it was not used.
        """
        for file in await self.listed(keys):
            number = 0
            async for piece in self.read(keys, file.id):
                await self.store_piece(to, file.id, number, piece, copy, within)
                number += 1
            await self.store_details(to, file, number, copy, within)

    async def store_piece(
        self, keys: SessionKeys, file_id: str, number: int, piece: bytes, copy: str, within: int
    ) -> None:
        """Store a piece of a file for a session that `create_session` is about to create from this copy."""
        key = keys.file(file_id)
        sealed = await asyncio.to_thread(self._keyring.seal, key, str(number), piece)
        await self._put(f"{key}:copy:{copy}", {str(number): sealed}, within)

    async def store_details(self, keys: SessionKeys, file: StoredFile, pieces: int, copy: str, within: int) -> None:
        """Store a file's details, once its pieces are stored."""
        details = self._keyring.seal(keys.files, file.id, _dumped(file))
        await self._put(f"{keys.files}:copy:{copy}", {file.id: b"%d,%d,0:" % (file.size, pieces) + details}, within)

    async def _put(self, key: str, values: Mapping[str, bytes], within: int) -> None:
        with translated():
            await self._client.hset(key, mapping=values)
            await self._client.expire(key, within)


@dataclass(frozen=True, slots=True)
class _State:
    """What scripts read of a file: see `file_of` in `lua/lib/session.lua`."""

    size: int
    pieces: int
    unused_until: int
    details: bytes


def _state(entry: bytes) -> _State:
    numbers, _, details = entry.partition(b":")
    try:
        size, pieces, unused_until = map(int, numbers.split(b","))
    except ValueError as error:
        raise CorruptRecord(f"an entry of a session's list of files cannot be read: {error!r}") from error
    return _State(size, pieces, unused_until, details)


def _dumped(file: StoredFile) -> bytes:
    added = round(file.added_at.timestamp() * 1000)
    return json.dumps({"v": 1, "name": file.name, "media_type": file.media_type, "added": added}).encode()


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def unknown_file(keys: SessionKeys, file_id: str) -> UnknownFile:
    """The error for a file that a session does not have."""
    return UnknownFile(f"file {file_id[:80]!r} is not in session {keys.session_id!r}. {UnknownFile.__doc__}")
