"""Every error that Sessionfleet raises on purpose, in one tree.

    SessionfleetError
    ├── BadRequest(ValueError)
    │   ├── InvalidSessionId · InvalidTurnId · InvalidMessage · MessageTooLarge
    │   ├── UnknownTool · UnknownAgent · UnknownModel · UnknownHooks
    │   ├── InvalidTool · InvalidState
    │   ├── InvalidFile                  an image, document or audio file of a message cannot be sent
    │   │   └── FileTooLarge
    │   ├── NotSearchable                a session whose transcript is not searchable
    │   ├── InvalidExport                a file that cannot be imported as a session
    │   ├── AddressRefused               a URL leads to an address that workers may not call
    │   ├── InvalidWebhook               a request that is not a webhook of this fleet
    │   └── InvalidImport                a module in SESSIONFLEET_IMPORTS cannot be used
    ├── Unauthenticated(PermissionError) · Forbidden(PermissionError)   at the gateway
    ├── TooManyRequests                  a limit of the gateway; `retry_after` says when to try again
    │   └── RateLimited                  a limit of the tenant or user
    ├── RequestTooLarge                  a request's body, at the gateway
    ├── NotFound(LookupError)            something that a request names does not exist
    │   └── UnknownFile                  a file that the session does not have
    ├── TooManyFiles                     the session has as many files as it may have
    ├── IdempotencyConflict
    ├── SessionBusy                      the mailbox is full, or policy="reject"
    ├── SessionOwnerError(PermissionError)
    ├── StateConflict                    a compare-and-set found another value
    ├── TurnNotFound(LookupError) · StaleCursor(LookupError)
    ├── CallNotFound(LookupError) · CallAnswered
    ├── ScheduleNotFound(LookupError) · ScheduleExists
    ├── StateNotFoundError(LookupError)  there is nothing to restore
    │   └── SessionExpired               because the session's ttl ran out
    ├── SessionExists                    a fork or import would overwrite a session
    ├── MiddlewareError                  a middleware raised; the turn stays committed
    ├── ResultTimeout(TimeoutError)      the wait ended, the turn did not
    │   └── NoWorkerAlive
    ├── TurnFailed                       the turn ended without a result
    │   ├── TurnCancelled · TurnDeadlineExceeded · TurnDeadLettered · ApprovalTimeout
    │   ├── ModelError                   the provider refused permanently
    │   │   └── ContextTooLong · ContentFiltered · ModelAccessDenied · ModelQuotaExhausted · UnsupportedMedia
    │   ├── FileUnavailable              a file of the message cannot be fetched from its URL
    │   ├── ModelUnavailable · ToolError · ToolInDoubt
    │   ├── OutputInvalid · JournalDiverged · ResultTooLarge
    │   ├── HistoryChanged               the turn that this one was to replace is not there any more
    │   ├── BudgetExceeded               the next model request could exceed a budget; it was not sent
    │   ├── TurnLimitExceeded            the turn needs more model calls or tool calls than it may make
    │   ├── TurnRefused · HookError      a hook of the worker refused the turn, or raised
    │   ├── RetrievalUnavailable         the index or the embedding model did not answer, retries included
    │   ├── EmbeddingFailed              the embedding model refused a text permanently
    │   ├── DocumentError                a document cannot be indexed; others continue
    │   │   └── DocumentUnsupported · DocumentEmpty · DocumentCorrupt · DocumentEncrypted · DocumentTooLarge
    │   ├── IndexMismatch                the collection has another embedding model's vectors
    │   ├── WebhookFailed                the webhook of another turn could not be delivered
    │   └── TurnConfigurationError       the worker does not know a tool, agent or model of this turn
    ├── FleetRunning                     `sessionfleet up` in a home whose fleet is running
    ├── MissingExtra                     an optional part of the package is not installed
    └── BackendError(ConnectionError)
        ├── StoreUnavailable · StoreFull
        ├── StoreUnsupported             too old, evicting, without the rights we need, or not a Redis at all
        ├── ListsIncomplete                  the lists of an older deployment's sessions are still being built
        ├── PartitionMismatch · CorruptRecord · SealError
        ├── ArchiveUnavailable           the archive of turns cannot be used now; what is to be written waits
        ├── IndexUnavailable · IndexLocked · EmbeddingUnavailable
        ├── AddressUnknown               a host's name cannot be resolved
        ├── GatewayStopping              a gateway that is stopping ends its waits; the turn continues
        ├── KeysUnavailable              the gateway cannot fetch the keys of bearer tokens
        ├── RemoteError                  the server behind `Session(agent_url=...)`
        │   ├── RemoteUnavailable        it cannot be reached, or the connection broke
        │   │   └── RemoteUntrusted      its certificate cannot be verified
        │   ├── RemoteTimeout(TimeoutError)          no response in time; the turn, if there is one, continues
        │   ├── RemoteAuthError(PermissionError)     it refuses our credentials, or does not allow this
        │   ├── RemoteRefused · RemoteFailed         it answered 4xx (or a redirect), or 5xx
        │   └── RemoteUnsupported        it is not a Sessionfleet gateway
        └── EmbeddedServerError          also the class of that name in `broker_config.embedded`

`SettingsError` is in `broker_config.settings`, below this package, and is a ValueError.

Not an error: DocumentWarning, a Python warning that a part of a document could not be read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import broker_config.embedded


class SessionfleetError(Exception):
    """Something went wrong in Sessionfleet."""

    def __init__(self, message: str | None = None, **detail: Any) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.detail = detail


# --- the request ------------------------------------------------------------------------------------------


class BadRequest(SessionfleetError, ValueError):
    """The request is not valid."""


class NotSearchable(BadRequest):
    """The session's transcript is not searchable."""


class InvalidSessionId(BadRequest):
    """A session id has 1 to 256 visible characters, without spaces or `~`; percent-encode those."""


class InvalidTurnId(BadRequest):
    """A turn id looks like `<session id>~<32 hex digits>`; use the `id` of a Turn."""


class InvalidMessage(BadRequest):
    """A message must be a non-empty string, or a list of such strings and files (Image, Document, Audio)."""


class MessageTooLarge(BadRequest):
    """The message is larger than SESSIONFLEET_MESSAGE_LIMIT_BYTES."""


class InvalidTool(BadRequest):
    """A tool must be a function marked `@tool`, in a module that the workers import."""


class InvalidImport(BadRequest):
    """A module in SESSIONFLEET_IMPORTS cannot be used by this worker."""


class UnknownTool(BadRequest):
    """No running worker knows this tool."""


class UnknownAgent(BadRequest):
    """No running worker has registered an agent with this name."""


class UnknownModel(BadRequest):
    """No running worker can resolve this model."""


class UnknownHooks(BadRequest):
    """No running worker has hooks with this name."""


class InvalidWebhook(BadRequest):
    """The request is not a webhook of this fleet, or was changed in transit."""


class InvalidState(BadRequest):
    """State has string keys and JSON values; only numbers can be incremented."""


class InvalidFile(BadRequest):
    """This cannot be sent as a file; name its media type, such as `media_type="image/png"`, or send another file."""


class FileTooLarge(InvalidFile):
    """The file is larger than SESSIONFLEET_FILE_LIMIT_BYTES."""


class InvalidExport(BadRequest):
    """This cannot be imported as a session: it is damaged, or in a format that is not known."""


class AddressRefused(BadRequest):
    """Workers may not call this address; they call public https and http hosts, and those that are allowed."""


# --- access, limits, conflicts, missing records ------------------------------------------------------------


class Unauthenticated(SessionfleetError, PermissionError):
    """Authentication is required: send an API key (`sessionfleet keys api create`) or a bearer token."""


class Forbidden(SessionfleetError, PermissionError):
    """The API key or token does not allow this."""


class TooManyRequests(SessionfleetError):
    """This API key or user has reached its limit; try again later."""

    @property
    def retry_after(self) -> float:
        """Seconds after which to try again."""
        return float(self.detail.get("retry_after", 1.0))


class RateLimited(TooManyRequests):
    """The tenant or the user has reached its limit of turns or sessions; try again later."""


class RequestTooLarge(SessionfleetError):
    """The request's body is larger than the gateway's limit."""


class NotFound(SessionfleetError, LookupError):
    """There is nothing with this name."""


class UnknownFile(NotFound):
    """The session has no such file: it was never uploaded, was not used in time, or was deleted."""


class TooManyFiles(SessionfleetError):
    """The session has as many files as it may have; delete some, or raise the limit."""


class IdempotencyConflict(SessionfleetError):
    """This idempotency key was used with a different request; use a new key for a new request."""


class SessionBusy(SessionfleetError):
    """The session accepts no turn now: its mailbox is full, or the policy is `reject` and a turn is open."""


class SessionOwnerError(SessionfleetError, PermissionError):
    """The session belongs to another user, who has not shared it with this one (`session.share`)."""


class StateConflict(SessionfleetError):
    """The value is not the one that the compare-and-set expected; read it and try again."""


class TurnNotFound(SessionfleetError, LookupError):
    """There is no such turn: it expired, its session was deleted, or it never existed."""


class CallNotFound(SessionfleetError, LookupError):
    """The turn is not waiting for this call; `turn.approvals()` lists the calls it waits for."""


class CallAnswered(SessionfleetError):
    """This call was already answered differently; the first answer counts."""


class ScheduleNotFound(SessionfleetError, LookupError):
    """The session has no such schedule: it was deleted, its session was, or it never existed."""


class ScheduleExists(SessionfleetError):
    """The session has another schedule under this id; update that one, delete it first, or choose another id."""


class StateNotFoundError(SessionfleetError, LookupError):
    """There is no checkpoint to restore; `save_state()` writes one."""


class SessionExpired(StateNotFoundError):
    """The session expired, and with it what there was to restore."""


class SessionExists(SessionfleetError):
    """A session with this id exists already; choose another id, or delete it first."""


class MiddlewareError(SessionfleetError):
    """A middleware raised; the turn itself is committed."""


class StaleCursor(SessionfleetError, LookupError):
    """The cursor is beyond the end of the stream; read from the start with `after=None`."""


class ResultTimeout(SessionfleetError, TimeoutError):
    """The turn did not end within the time you waited; it is still accepted. Wait again with `result()`."""

    @property
    def turn_id(self) -> str | None:
        """The turn that the caller waited for."""
        turn: str | None = self.detail.get("turn_id")
        return turn


class NoWorkerAlive(ResultTimeout):
    """No worker serves this session's queue; start one with `sessionfleet worker`. The turn waits for it."""


# --- how a turn can end without a result --------------------------------------------------------------------


class TurnFailed(SessionfleetError):
    """The turn failed."""


class TurnCancelled(TurnFailed):
    """The turn was cancelled."""


class TurnDeadlineExceeded(TurnFailed):
    """The turn did not end before its deadline; give it more time with `timeout=`."""


class TurnDeadLettered(TurnFailed):
    """The turn's worker crashed too many times; see `sessionfleet turns show ID`."""


class ApprovalTimeout(TurnFailed):
    """The turn's pending calls were not answered in time; allow more with `approval_timeout=`."""


class HistoryChanged(TurnFailed):
    """The history changed before this turn could take the place of another one; nothing was replaced."""


class ModelError(TurnFailed):
    """The model's provider refused the request permanently."""


class ContextTooLong(ModelError):
    """The turn alone does not fit the model's context; send less, let tools return less, or use another model."""


class ContentFiltered(ModelError):
    """The provider's content filter refused the request or the answer."""


class ModelAccessDenied(ModelError):
    """The provider refused the API key, or the key may not use this model; check the worker's environment."""


class ModelQuotaExhausted(ModelError):
    """The provider's quota or credit is used up; waiting does not help."""


class UnsupportedMedia(ModelError):
    """The model cannot take this kind of file; send another kind, or use another model."""


class FileUnavailable(TurnFailed):
    """A file of the message cannot be fetched from its URL."""


class ModelUnavailable(TurnFailed):
    """The model's provider did not answer, and all retries are used up."""


class ToolError(TurnFailed):
    """A tool failed in a way that the model cannot correct."""


class ToolInDoubt(TurnFailed):
    """A worker died while a tool ran, its outcome is unknown, and the tool says `in_doubt="fail"`."""


class TurnRefused(TurnFailed):
    """A policy of the fleet's operators refused the turn."""


class HookError(TurnFailed):
    """A hook of the worker raised an exception."""


class OutputInvalid(TurnFailed):
    """The model's output does not match the requested type."""


class JournalDiverged(TurnFailed):
    """After a crash the turn took another path than its journal records; nothing was run again."""


class ResultTooLarge(TurnFailed):
    """A model response, tool result or answer is larger than SESSIONFLEET_RESULT_LIMIT_BYTES."""


class TurnLimitExceeded(TurnFailed):
    """The turn needs more model calls or tool calls than it may make."""

    @property
    def limit(self) -> str:
        """Which limit: `model_calls` or `tool_calls`."""
        return str(self.detail.get("limit", ""))

    @property
    def allowed(self) -> int:
        """How many are allowed."""
        return int(self.detail.get("allowed", 0))


class BudgetExceeded(TurnFailed):
    """The turn's next model request could exceed a budget; it was not sent."""

    @property
    def scope(self) -> str:
        """Whose budget: `turn`, `session`, `user` or `tenant`."""
        return str(self.detail.get("scope", ""))

    @property
    def unit(self) -> str:
        """`tokens` or `cost` (US dollars)."""
        return str(self.detail.get("unit", ""))

    @property
    def limit(self) -> float:
        """What may be spent."""
        return float(self.detail.get("limit", 0))

    @property
    def used(self) -> float:
        """What is spent already, and what turns that run at the same time have reserved."""
        return float(self.detail.get("used", 0))

    @property
    def resets_at(self) -> datetime | None:
        """When a day's budget is there again, for turns that begin then; None for a turn's or session's."""
        at = self.detail.get("resets_at")
        return None if at is None else datetime.fromisoformat(at)


class TurnConfigurationError(TurnFailed):
    """The worker does not know a tool, agent or model of this turn; see SESSIONFLEET_IMPORTS."""


class RetrievalUnavailable(TurnFailed):
    """The knowledge index or the embedding model did not answer, and all retries are used up."""


class EmbeddingFailed(TurnFailed):
    """The embedding model refused a text permanently."""


class DocumentError(TurnFailed):
    """A document cannot be indexed."""


class DocumentUnsupported(DocumentError):
    """This kind of document cannot be read; send PDF, DOCX, HTML, Markdown, text, CSV, JSON or a mail."""


class DocumentEmpty(DocumentError):
    """There is no text in this document; a scanned one needs text recognition first."""


class DocumentCorrupt(DocumentError):
    """The document is damaged or truncated; open it in a program of its kind and save it again."""


class DocumentEncrypted(DocumentError):
    """The document is encrypted; save it without a password and send it again."""


class DocumentTooLarge(DocumentError):
    """The document is larger than SESSIONFLEET_DOCUMENT_LIMIT_BYTES, before or after unpacking."""


class DocumentWarning(UserWarning):
    """A part of a document could not be read; the rest can be found. The receipt has the same sentences."""


class WebhookFailed(TurnFailed):
    """A webhook could not be delivered; `sessionfleet dead retry ID` retries it."""


class IndexMismatch(TurnFailed):
    """The collection has vectors of another embedding model; use that model, or another collection."""


# --- the fleet of this machine ---------------------------------------------------------------------------


class MissingExtra(SessionfleetError):
    """This needs an optional part of Sessionfleet that is not installed; `pip install 'sessionfleet[worker]'`."""


class FleetRunning(SessionfleetError):
    """A fleet of this home is already running; `sessionfleet down` stops it."""


# --- servers that cannot be used --------------------------------------------------------------------------


class BackendError(SessionfleetError, ConnectionError):
    """A server that Sessionfleet needs cannot be used."""


class StoreUnavailable(BackendError):
    """The store does not answer; check REDIS_URL, or start a fleet with `sessionfleet up`."""


class ListsIncomplete(BackendError):
    """Sessions of an older version are still being added to the lists: wait until `Session.list().complete`.

    A worker does it once, in the background; without one, start one. Until then, not all sessions can be found.
    """


class StoreFull(BackendError):
    """The store has no room for new turns; give it more memory, or wait until results expire."""


class StoreUnsupported(BackendError):
    """The store's server does not meet Sessionfleet's requirements; the message says which one."""


class PartitionMismatch(BackendError):
    """This deployment was created with another partition count; set SESSIONFLEET_PARTITIONS to it."""


class CorruptRecord(BackendError):
    """A record in the store cannot be read."""


class SealError(BackendError):
    """An encrypted value cannot be decrypted with the keys in SESSIONFLEET_ENCRYPTION_KEYS."""


class ArchiveUnavailable(BackendError):
    """The archive of committed turns cannot be reached or used now; turns wait for it in the store."""


class IndexUnavailable(BackendError):
    """The knowledge index does not answer; check QDRANT_URL."""


class IndexLocked(BackendError):
    """Another process on this machine owns the embedded knowledge index; only one may."""


class EmbeddingUnavailable(BackendError):
    """The embedding model's provider did not answer."""


class AddressUnknown(BackendError):
    """The host's name cannot be resolved; check its spelling."""


class KeysUnavailable(BackendError):
    """The keys of bearer tokens cannot be fetched now; check SESSIONFLEET_GATEWAY_JWKS of the gateway."""


class RemoteError(BackendError):
    """The server behind an agent_url cannot be used.

    Attributes:
        status: the HTTP status of its response, if it responded; problem: its problem details, if it sent any.
    """

    @property
    def status(self) -> int | None:
        """The HTTP status of its response; None without one."""
        status: int | None = self.detail.get("status")
        return status

    @property
    def problem(self) -> dict[str, Any]:
        """Its problem details (RFC 9457); empty if it sent none."""
        return dict(self.detail.get("problem") or {})


class RemoteUnavailable(RemoteError):
    """The server behind the agent_url cannot be reached; check the URL, and that the server is running."""


class RemoteUntrusted(RemoteUnavailable):
    """The server's certificate cannot be verified; SSL_CERT_FILE names a file with the authority to trust."""


class RemoteTimeout(RemoteError, TimeoutError):
    """The server behind the agent_url did not respond in time; allow more with `timeout=`.

    Attributes:
        turn_id: the turn that was accepted and continues, if the server is a gateway and said so.
        idempotency_key: the key of the call; repeating the call with this key finds the turn.
    """

    @property
    def turn_id(self) -> str | None:
        """The turn that continues: `session.turn(error.turn_id).result()` waits for it."""
        turn_id: str | None = self.detail.get("turn_id")
        return turn_id

    @property
    def idempotency_key(self) -> str | None:
        """The key of the call."""
        key: str | None = self.detail.get("idempotency_key")
        return key


class RemoteAuthError(RemoteError, PermissionError):
    """The server behind the agent_url requires other credentials; pass them with `headers=`."""


class RemoteRefused(RemoteError):
    """The server behind the agent_url refused the request."""


class RemoteFailed(RemoteError):
    """The server behind the agent_url failed."""


class RemoteUnsupported(RemoteError):
    """This server is not a Sessionfleet gateway: it only accepts messages, by `chat()`."""


class GatewayStopping(BackendError):
    """The gateway is stopping: the turn continues, so ask another gateway, or this one when it is back."""


class EmbeddedServerError(BackendError, broker_config.embedded.EmbeddedServerError):
    """The embedded server cannot be started or used."""


def turn_error(type_name: str, message: str, detail: dict[str, Any] | None = None) -> TurnFailed:
    """The exception for a stored error; an unknown name (a newer worker's) becomes TurnFailed."""
    found = globals().get(type_name)
    if isinstance(found, type) and issubclass(found, TurnFailed):
        return found(message, **(detail or {}))
    return TurnFailed(f"{type_name}: {message}", **(detail or {}))
