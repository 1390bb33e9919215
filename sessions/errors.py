"""Every error that Sessionfleet raises on purpose, in one tree.

    SessionfleetError
    ├── BadRequest(ValueError)
    │   ├── InvalidSessionId · InvalidTurnId · InvalidMessage · MessageTooLarge
    │   ├── UnknownTool · UnknownAgent · UnknownModel · UnknownHooks
    │   ├── InvalidTool · InvalidState
    │   ├── AddressRefused               a URL leads where workers may not call
    │   ├── InvalidWebhook               a request that is no webhook of this fleet
    │   └── InvalidImport                a module of SESSIONFLEET_IMPORTS cannot be used
    ├── Unauthenticated(PermissionError) · Forbidden(PermissionError)   at the gateway
    ├── TooManyRequests                  a limit of the gateway; `retry_after` says when to come again
    ├── RequestTooLarge                  a request's body, at the gateway
    ├── NotFound(LookupError)            what a request to the gateway names is not there
    ├── IdempotencyConflict
    ├── SessionBusy                      the mailbox is full, or policy="reject"
    ├── SessionOwnerError(PermissionError)
    ├── StateConflict                    a compare-and-set found another value
    ├── TurnNotFound(LookupError) · StaleCursor(LookupError)
    ├── CallNotFound(LookupError) · CallAnswered
    ├── StateNotFoundError(LookupError)  there is nothing to restore
    │   └── SessionExpired               there was, until its ttl ran out
    ├── SessionExists                    a fork or import would overwrite a session
    ├── MiddlewareError                  a middleware raised; the turn stays committed
    ├── ResultTimeout(TimeoutError)      the waiting ended, the turn did not
    │   └── NoWorkerAlive
    ├── TurnFailed                       the turn ended without an answer
    │   ├── TurnCancelled · TurnDeadlineExceeded · TurnDeadLettered · ApprovalTimeout
    │   ├── ModelError                   the provider refused for good
    │   │   └── ContextTooLong · ContentFiltered · ModelAccessDenied · ModelQuotaExhausted
    │   ├── ModelUnavailable · ToolError · ToolInDoubt
    │   ├── OutputInvalid · JournalDiverged · ResultTooLarge
    │   ├── TurnRefused · HookError      what the worker's hooks decided, or could not
    │   ├── RetrievalUnavailable         index or embedding model could not answer, and all tries are used up
    │   ├── EmbeddingFailed              the embedding model refused a text for good
    │   ├── DocumentError                a document cannot be taken in; others go on
    │   │   └── DocumentUnsupported · DocumentEmpty · DocumentCorrupt · DocumentEncrypted · DocumentTooLarge
    │   ├── IndexMismatch                the collection holds another embedding model's vectors
    │   ├── WebhookFailed                the end of another turn could not be told
    │   └── TurnConfigurationError       the worker does not know a tool, agent or model of this turn
    ├── FleetRunning                     `sessionfleet up` where a fleet runs already
    ├── MissingExtra                     a part of the package that is not installed
    └── BackendError(ConnectionError)
        ├── StoreUnavailable · StoreFull
        ├── StoreUnsupported             too old, evicting, without rights for us, or not a Redis at all
        ├── PartitionMismatch · CorruptRecord · SealError
        ├── IndexUnavailable · IndexLocked · EmbeddingUnavailable
        ├── AddressUnknown               a host's name cannot be resolved
        ├── GatewayStopping              a gateway that ends waits no longer; the turn goes on
        ├── KeysUnavailable              the gateway cannot get the keys of bearer tokens
        ├── RemoteError                  the server behind `Session(agent_url=...)`
        │   ├── RemoteUnavailable        it cannot be reached, or the connection broke
        │   │   └── RemoteUntrusted      its certificate cannot be verified
        │   ├── RemoteTimeout(TimeoutError)          no answer in time; the turn, if there is one, goes on
        │   ├── RemoteAuthError(PermissionError)     it does not know us, or does not allow this
        │   ├── RemoteRefused · RemoteFailed         it answered 4xx (or a redirect), or 5xx
        │   └── RemoteUnsupported        it is no Sessionfleet gateway
        └── EmbeddedServerError          also the class of that name in `broker_config.embedded`

`SettingsError` lives in `broker_config.settings`, below this package, and is a ValueError.
"""

from __future__ import annotations

from typing import Any

import broker_config.embedded


class SessionfleetError(Exception):
    """Something went wrong in Sessionfleet."""

    def __init__(self, message: str | None = None, **detail: Any) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.detail = detail


# --- what the caller sent ---------------------------------------------------------------------------------


class BadRequest(SessionfleetError, ValueError):
    """The call cannot be carried out as it is."""


class InvalidSessionId(BadRequest):
    """A session id has 1 to 256 visible characters, without spaces and `~`; percent-encode those."""


class InvalidTurnId(BadRequest):
    """A turn id looks like `<session id>~<32 hex digits>`; use the `id` of a Turn."""


class InvalidMessage(BadRequest):
    """A message is a text that is not empty."""


class MessageTooLarge(BadRequest):
    """The message is larger than SESSIONFLEET_MESSAGE_LIMIT_BYTES."""


class InvalidTool(BadRequest):
    """A tool is a function marked `@tool` in a module that the workers import."""


class InvalidImport(BadRequest):
    """A module of SESSIONFLEET_IMPORTS cannot be used by this worker."""


class UnknownTool(BadRequest):
    """No living worker knows this tool."""


class UnknownAgent(BadRequest):
    """No living worker has an agent registered under this name."""


class UnknownModel(BadRequest):
    """No living worker can resolve this model."""


class UnknownHooks(BadRequest):
    """No living worker has hooks of this name."""


class InvalidWebhook(BadRequest):
    """The request is no webhook of this fleet, or was changed on its way."""


class InvalidState(BadRequest):
    """State has texts as keys and JSON as values; only numbers can be incremented."""


class AddressRefused(BadRequest):
    """Workers may not call this address; they call https and http hosts of the open internet, and those allowed."""


# --- the state of things ----------------------------------------------------------------------------------


class Unauthenticated(SessionfleetError, PermissionError):
    """Say who you are: send an API key (`sessionfleet keys api create`) or a bearer token."""


class Forbidden(SessionfleetError, PermissionError):
    """The API key or token does not allow this."""


class TooManyRequests(SessionfleetError):
    """This API key or user sends more than it may; come again later."""

    @property
    def retry_after(self) -> float:
        """Seconds after which to try again."""
        return float(self.detail.get("retry_after", 1.0))


class RequestTooLarge(SessionfleetError):
    """The request's body is larger than the gateway takes."""


class NotFound(SessionfleetError, LookupError):
    """There is nothing of this name."""


class IdempotencyConflict(SessionfleetError):
    """This idempotency key was used with another request; use a new key for a new request."""


class SessionBusy(SessionfleetError):
    """The session takes no further turn now: its mailbox is full, or the policy is `reject` and one is open."""


class SessionOwnerError(SessionfleetError, PermissionError):
    """The session belongs to another user."""


class StateConflict(SessionfleetError):
    """The state is not what the compare-and-set expected; read it and try again."""


class TurnNotFound(SessionfleetError, LookupError):
    """There is no such turn: it expired, its session was deleted, or it never was."""


class CallNotFound(SessionfleetError, LookupError):
    """The turn waits for no such call; `turn.approvals()` lists those it waits for."""


class CallAnswered(SessionfleetError):
    """This call was answered already, and differently; the first answer counts."""


class StateNotFoundError(SessionfleetError, LookupError):
    """There is no checkpoint to restore; `save_state()` writes one."""


class SessionExpired(StateNotFoundError):
    """The session's ttl ran out, and with it what there was to restore."""


class SessionExists(SessionfleetError):
    """A session of this id exists already; choose another id, or delete it first."""


class MiddlewareError(SessionfleetError):
    """A middleware raised; the turn itself is committed."""


class StaleCursor(SessionfleetError, LookupError):
    """The cursor lies beyond the end of the stream; read from the start with `after=None`."""


class ResultTimeout(SessionfleetError, TimeoutError):
    """The turn did not end within the time you waited; it stays accepted. Ask again with `result()`."""

    @property
    def turn_id(self) -> str | None:
        """The turn that was waited for."""
        turn: str | None = self.detail.get("turn_id")
        return turn


class NoWorkerAlive(ResultTimeout):
    """No worker serves this session's queue; start one with `sessionfleet worker`. The turn waits for it."""


# --- how a turn can end without an answer -------------------------------------------------------------------


class TurnFailed(SessionfleetError):
    """The turn failed."""


class TurnCancelled(TurnFailed):
    """The turn was cancelled."""


class TurnDeadlineExceeded(TurnFailed):
    """The turn did not end before its deadline; give it more time with `timeout=`."""


class TurnDeadLettered(TurnFailed):
    """The turn lost its worker too often; see `sessionfleet turns show ID`."""


class ApprovalTimeout(TurnFailed):
    """Nobody answered the turn's pending calls in time; allow more with `approval_timeout=`."""


class ModelError(TurnFailed):
    """The model's provider refused the request for good."""


class ContextTooLong(ModelError):
    """The turn alone does not fit the model's context; send less, have tools return less, or use another model."""


class ContentFiltered(ModelError):
    """The provider's content filter refused the request or the answer."""


class ModelAccessDenied(ModelError):
    """The provider refused the API key, or the key may not use this model; check the worker's environment."""


class ModelQuotaExhausted(ModelError):
    """The provider's quota or credit is used up; waiting does not help."""


class ModelUnavailable(TurnFailed):
    """The model's provider could not answer, and all tries are used up."""


class ToolError(TurnFailed):
    """A tool failed in a way that the model cannot mend."""


class ToolInDoubt(TurnFailed):
    """A worker died while a tool ran; whether it took effect is unknown, and it says `in_doubt="fail"`."""


class TurnRefused(TurnFailed):
    """A policy of the people who run the fleet refused the turn."""


class HookError(TurnFailed):
    """A hook of the worker raised an exception."""


class OutputInvalid(TurnFailed):
    """The model gave no output of the wanted type."""


class JournalDiverged(TurnFailed):
    """After a crash the turn did not take the same way as its journal; nothing was run again."""


class ResultTooLarge(TurnFailed):
    """A model response, tool result or answer is larger than SESSIONFLEET_RESULT_LIMIT_BYTES."""


class TurnConfigurationError(TurnFailed):
    """The worker does not know a tool, agent or model of this turn; see SESSIONFLEET_IMPORTS."""


class RetrievalUnavailable(TurnFailed):
    """The knowledge index or the embedding model could not answer, and all tries are used up."""


class EmbeddingFailed(TurnFailed):
    """The embedding model refused a text for good."""


class DocumentError(TurnFailed):
    """A document cannot be taken in."""


class DocumentUnsupported(DocumentError):
    """This kind of document cannot be read; send PDF, DOCX, HTML, Markdown, text, CSV or JSON."""


class DocumentEmpty(DocumentError):
    """There is no text in this document; a scanned one needs text recognition first."""


class DocumentCorrupt(DocumentError):
    """The document is damaged or cut short; open it in a program of its kind and save it anew."""


class DocumentEncrypted(DocumentError):
    """The document is encrypted; save it without a password and send it again."""


class DocumentTooLarge(DocumentError):
    """The document is larger than SESSIONFLEET_DOCUMENT_LIMIT_BYTES, packed or unpacked."""


class WebhookFailed(TurnFailed):
    """A webhook could not be delivered; `sessionfleet dead retry ID` tries it again."""


class IndexMismatch(TurnFailed):
    """The collection holds vectors of another embedding model; use that model, or another collection."""


# --- the fleet of this machine ---------------------------------------------------------------------------


class MissingExtra(SessionfleetError):
    """This needs a part of Sessionfleet that is not installed; `pip install 'sessionfleet[worker]'`."""


class FleetRunning(SessionfleetError):
    """A fleet of this home runs already; `sessionfleet down` stops it."""


# --- the servers behind ---------------------------------------------------------------------------------


class BackendError(SessionfleetError, ConnectionError):
    """A server behind the fleet cannot be used."""


class StoreUnavailable(BackendError):
    """The store does not answer; check REDIS_URL, or start a fleet with `sessionfleet up`."""


class StoreFull(BackendError):
    """The store has no room for new turns; give it more memory, or wait until results expire."""


class StoreUnsupported(BackendError):
    """The store's server cannot keep the promises; the message says which setting is wrong."""


class PartitionMismatch(BackendError):
    """This deployment was born with another partition count; set SESSIONFLEET_PARTITIONS to it."""


class CorruptRecord(BackendError):
    """A record in the store cannot be read."""


class SealError(BackendError):
    """An encrypted value does not open with the keys of SESSIONFLEET_ENCRYPTION_KEYS."""


class IndexUnavailable(BackendError):
    """The knowledge index does not answer; check QDRANT_URL."""


class IndexLocked(BackendError):
    """Another process of this machine owns the embedded knowledge index; one may."""


class EmbeddingUnavailable(BackendError):
    """The embedding model's provider could not answer."""


class AddressUnknown(BackendError):
    """The host's name cannot be resolved; check how it is spelled."""


class KeysUnavailable(BackendError):
    """The keys of bearer tokens cannot be had now; check SESSIONFLEET_GATEWAY_JWKS of the gateway."""


class RemoteError(BackendError):
    """The server behind an agent_url cannot be used.

    Attributes:
        status: the HTTP status that it answered with, if it answered; problem: its problem details, if it sent any.
    """

    @property
    def status(self) -> int | None:
        """The HTTP status of its answer; None where there was none."""
        status: int | None = self.detail.get("status")
        return status

    @property
    def problem(self) -> dict[str, Any]:
        """Its problem details (RFC 9457); empty where it sent none."""
        return dict(self.detail.get("problem") or {})


class RemoteUnavailable(RemoteError):
    """The server behind the agent_url cannot be reached; check the address, and whether it runs."""


class RemoteUntrusted(RemoteUnavailable):
    """The server's certificate cannot be verified; SSL_CERT_FILE names a file with the authority to trust."""


class RemoteTimeout(RemoteError, TimeoutError):
    """The server behind the agent_url did not answer in time; give it more with `timeout=`.

    Attributes:
        turn_id: the turn that was accepted and goes on, where the server is a gateway and said so.
        idempotency_key: the key of the call; the same call with this key finds the turn.
    """

    @property
    def turn_id(self) -> str | None:
        """The turn that goes on: `session.turn(error.turn_id).result()` waits for it."""
        turn_id: str | None = self.detail.get("turn_id")
        return turn_id

    @property
    def idempotency_key(self) -> str | None:
        """The key of the call."""
        key: str | None = self.detail.get("idempotency_key")
        return key


class RemoteAuthError(RemoteError, PermissionError):
    """The server behind the agent_url wants other credentials; give them with `headers=`."""


class RemoteRefused(RemoteError):
    """The server behind the agent_url refused the request."""


class RemoteFailed(RemoteError):
    """The server behind the agent_url failed."""


class RemoteUnsupported(RemoteError):
    """This server is no Sessionfleet gateway: it takes messages by `chat()`, and nothing else."""


class GatewayStopping(BackendError):
    """The gateway is stopping: the turn goes on, so ask another gateway, or this one when it is back."""


class EmbeddedServerError(BackendError, broker_config.embedded.EmbeddedServerError):
    """The embedded server cannot be started or used."""


def turn_error(type_name: str, message: str, detail: dict[str, Any] | None = None) -> TurnFailed:
    """The exception for a stored error; an unknown name (a newer worker's) becomes TurnFailed."""
    found = globals().get(type_name)
    if isinstance(found, type) and issubclass(found, TurnFailed):
        return found(message, **(detail or {}))
    return TurnFailed(f"{type_name}: {message}", **(detail or {}))
