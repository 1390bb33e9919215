"""Every setting of a deployment, read in one place.

This is the only module that reads the environment. `REDIS_URL`, `QDRANT_URL` and `QDRANT_API_KEY` keep their usual
names; all other variables start with `SESSIONFLEET_`. An unknown variable with that prefix is an error, because a
misspelt setting that is silently ignored is only found in production.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from broker_config.encryption_keys import parse_keys
from broker_config.names import LONGEST_TENANT, name_problem
from broker_config.prices import parse_prices
from broker_config.redis_url import RedisUrl, check_readable, without_secrets
from broker_config.sentinel_url import SentinelUrl, is_sentinel
from broker_config.webhook_secrets import parse_secrets

PREFIX = "SESSIONFLEET_"
_OWN_BROKER = "SESSIONFLEET_BROKER_URL"
_THEIR_BROKER = "CELERY_BROKER_URL"
_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+\Z")
RETRIEVAL = "retrieval"
"""The queue of searches and of documents to index."""

Names = Annotated[tuple[str, ...], NoDecode]
Numbers = Annotated[tuple[Annotated[float, Field(gt=0)], ...], NoDecode]


class SettingsError(ValueError):
    """A setting is unknown, or its value is not valid."""


class Settings(BaseSettings):
    """The deployment's settings. Seconds are float; names with another unit end in `_ms` or `_bytes`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,  # inputs can be keys, or URLs with passwords
    )

    redis_url: str | None = Field(
        None,
        validation_alias=AliasChoices("redis_url", "REDIS_URL"),
        description="The store. Unset: the embedded server in `SESSIONFLEET_HOME`.",
    )
    broker_url: str | None = Field(
        None,
        validation_alias=AliasChoices(_OWN_BROKER, _THEIR_BROKER),
        description="The Redis that carries the wake-ups. Unset: `CELERY_BROKER_URL`. If that is unset too, or if "
        "this is empty: the store's server.",
    )
    qdrant_url: str | None = Field(
        None,
        validation_alias=AliasChoices("qdrant_url", "QDRANT_URL"),
        description="The Qdrant server for documents. Unset: the embedded engine, in `SESSIONFLEET_HOME`.",
    )
    qdrant_api_key: str | None = Field(
        None,
        validation_alias=AliasChoices("qdrant_api_key", "QDRANT_API_KEY"),
        repr=False,
        description="The key of the Qdrant server at `QDRANT_URL`.",
    )
    encryption_keys: SecretStr | None = Field(
        None,
        description="Keys that encrypt the contents of the store: `<id>:<base64 of 32 bytes>`, comma separated. The "
        "first one encrypts, all decrypt (docs/security.md). Unset: nothing is encrypted.",
    )
    redis_cluster: bool = Field(False, description="The store at `REDIS_URL` is a Redis Cluster.")
    home: Path = Field(
        Path(".sessions"), description="The folder of the embedded fleet: data, logs and document index."
    )
    autostart: bool = Field(True, description="Start a local fleet if there is none and REDIS_URL is unset.")
    idle_shutdown: float = Field(
        600.0, gt=0, description="Seconds without a turn after which an auto-started fleet stops."
    )

    tenant: str = Field("default", description="The tenant whose sessions these are.")
    partitions: int = Field(
        256, ge=1, le=4096, description="Groups that sessions are hashed into; fixed when the deployment is created."
    )
    model: str | None = Field(
        None,
        description="The model of agents that do not name one; read by the workers. Unset: `offline`, a built-in "
        "echo model.",
    )
    imports: Names = Field((), description="Modules with @tool functions, agents and models, comma separated.")

    hooks: Names = Field((), description="Hooks that a worker applies to all of its turns, comma separated.")

    queues: Names = Field(("turns",), description="Queues that a worker serves: `turns`, `turns.vip`, comma separated.")
    role: Literal["turns", "retrieval", "all"] = Field(
        "all", description="What a worker does: run turns, search memory and knowledge (queue `retrieval`), or both."
    )
    concurrency: int = Field(100, ge=1, le=10_000, description="Turns that one worker process runs at the same time.")
    lease: float = Field(
        5.0, ge=0.5, le=300, description="Seconds for which a worker owns a session without renewing the lease."
    )
    turn_timeout: float = Field(
        900.0, gt=0, le=7 * 86400, description="Deadline of a turn in seconds, from acceptance."
    )
    approval_timeout: float = Field(
        86400.0, gt=0, le=90 * 86400, description="Seconds for which a turn waits for an approval or an outside result."
    )
    disconnect_grace: float = Field(
        15.0,
        gt=0,
        description='Seconds within which the reader of a turn with `on_disconnect="cancel"` may come back.',
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Worker crashes after which a turn becomes a dead letter.")
    model_retries: int = Field(
        5, ge=0, le=100, description="How often a request is retried after a transient model error."
    )
    model_backoff: float = Field(
        1.0, gt=0, le=300, description="First pause in seconds after a transient model error; it doubles each time."
    )
    model_backoff_limit: float = Field(60.0, gt=0, description="Longest pause in seconds between two tries.")
    first_token_timeout: float = Field(
        120.0, gt=0, description="Seconds to wait for a streamed answer's first token; then the request is retried."
    )
    token_timeout: float = Field(
        60.0, gt=0, description="Seconds to wait between two tokens of a streamed answer; then the request is retried."
    )
    shutdown_grace: float = Field(
        20.0, ge=0, description="Seconds for which turns continue on a worker that is stopping."
    )
    tool_grace: float = Field(10.0, ge=0, description="Further seconds for tools that are still running then.")
    stall_limit: float = Field(
        30.0, gt=0, description="Seconds for which leases are still renewed while the event loop is blocked."
    )
    turns_per_lease: int = Field(
        50, ge=1, description="Turns of one session in a row, before other sessions get their share."
    )
    seconds_per_lease: float = Field(
        30.0, gt=0, description="Seconds for one session in a row, before other sessions get their share."
    )

    mailbox_limit: int = Field(100, ge=1, description="Turns that may wait in one session.")
    message_limit_bytes: int = Field(1024 * 1024, ge=1, description="Largest message of a turn.")
    file_limit_bytes: int = Field(
        20 * 1024 * 1024, ge=1, le=400 * 1024 * 1024, description="Largest image, document or audio file of a message."
    )
    files_limit: int = Field(200, ge=0, description="Files that one session may have; 0: messages have no files.")
    files_limit_bytes: int = Field(256 * 1024 * 1024, ge=0, description="Bytes that the files of one session may have.")
    file_unused_ttl: float = Field(
        3600.0, gt=0, le=30 * 86400, description="Seconds after which an uploaded file is removed if no turn uses it."
    )
    file_turns: int = Field(
        5,
        ge=0,
        le=1000,
        description="For how many later turns the model gets a file of the history again, at least; then a short text "
        "stands in its place. That is done for several turns together, so it may be up to twice as many. Read by the "
        "workers.",
    )
    file_urls: Literal["public", "any", "off"] = Field(
        "public",
        description="Whether workers fetch the files of messages by URL: from public addresses, from any, including "
        "private ones (but never from clouds' metadata servers), or not at all.",
    )
    result_limit_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, description="Largest tool result, model response or answer."
    )
    history_window: int = Field(
        100,
        ge=0,
        le=1000,
        description="Largest number of past turns that the model sees. The window grows to this number, then it moves "
        "until half of it is left: between two moves, each request begins with the one before it, which providers read "
        "from their caches. It may be large, because `SESSIONFLEET_HISTORY_TOKENS` limits what a request costs and is "
        "usually reached first.",
    )
    history_window_bytes: int = Field(
        512 * 1024, ge=0, description="Largest number of bytes of past turns that the model sees; as for turns."
    )
    history_segments: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether workers put the oldest turns of a history, those before the window, together into "
        "compressed segments, which have a fraction of the bytes. Earlier versions cannot read segments, so `auto` "
        "writes them only in a deployment that was created by a version that can. In an older deployment, set `on` "
        "when all of its workers, clients and gateways are updated. Segments that exist are read with any value.",
    )
    history_tokens: int | None = Field(
        None,
        ge=1000,
        description="Tokens of a conversation, as the provider counts them, after which the window moves: the next "
        "turn's conversation has about half as many. Unset: half of the model's context, at most 64,000; 32,000 if it "
        "is not known. Read by the workers.",
    )
    history_result_bytes: int = Field(
        16 * 1024,
        ge=512,
        description="Largest tool result of a past turn in a prompt. Of a larger one, the model gets the beginning and "
        "the end; the history keeps all of it. Read by the workers.",
    )
    compact: Literal["off", "auto"] = Field(
        "off",
        description="`auto`: a model summarises the turns that leave the window of a session's history, in the "
        'background, unless the session was opened with `compact="off"`. Set it alike for clients, gateways and '
        "workers.",
    )
    compact_model: str | None = Field(
        None,
        description="The model that writes summaries. Unset: that of the agent whose turn left the window last. Read "
        "by the workers.",
    )
    prompt_cache: bool = Field(
        True,
        description="Use the prompt caches of providers that need marks for that (Anthropic, Bedrock, OpenRouter, new "
        "models of OpenAI). A message's `model_settings=`, and the settings of registered agents and models, win. Read "
        "by the workers.",
    )
    result_ttl: float = Field(
        7 * 86400.0, gt=0, description="Seconds for which results and events are kept after their turn ends."
    )
    idempotency_ttl: float = Field(
        86400.0,
        gt=0,
        description="Seconds for which an idempotency key is kept after its turn ends; at most "
        "`SESSIONFLEET_RESULT_TTL`.",
    )
    delta_ms: int = Field(
        30,
        ge=0,
        le=5000,
        description="Streamed text is sent at once, but in one event at most in this many milliseconds.",
    )
    delta_chars: int = Field(256, ge=1, description="... or as soon as there are this many characters.")
    memory_high_water: float = Field(
        0.9, gt=0, le=1, description="Share of maxmemory from which on new turns are refused."
    )

    embedding_model: str | None = Field(
        None,
        description="`minilm` (runs in the worker, needs no key), `multilingual-e5-small` (the extra `multilingual`), "
        "`provider:model` such as `openai:text-embedding-3-small`, or `fastembed:<directory>`. Unset: `minilm`, "
        "whatever keys are set.",
    )
    embedding_threads: int = Field(1, ge=1, le=64, description="Threads that a model in the worker uses.")
    retrieval_timeout: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Seconds that a search of memory or knowledge may take, including the time in the queue.",
    )
    ingest_timeout: float = Field(
        3600.0, gt=0, le=7 * 86400, description="Deadline for indexing one document, in seconds from its acceptance."
    )
    retrieval_tokens: int = Field(
        1500,
        ge=0,
        le=1_000_000,
        description="Largest number of tokens (of 4 characters) of memory, and of knowledge, in a prompt.",
    )
    document_limit_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1,
        le=400 * 1024 * 1024,
        description="Largest document; limits the file and its extracted text alike.",
    )
    ocr: Literal["auto", "off"] = Field(
        "auto",
        description="Whether the text of scans and pictures is recognised: `auto`, if the extra `ocr` is installed.",
    )
    ocr_pages: int = Field(
        200, ge=1, le=5000, description="Largest number of pages of one document whose text is recognised."
    )
    ocr_page_seconds: float = Field(
        60.0, gt=0, le=3600, description="Seconds of processor time that recognising one page may take."
    )
    ocr_memory_bytes: int = Field(
        2560 * 1024 * 1024,
        ge=1024 * 1024 * 1024,
        description="Address space of the process that recognises text; less than half of it is used.",
    )
    history_search: Literal["off", "on"] = Field(
        "off",
        description="`on`: the transcript of each session is searchable, from its next message on, unless it was "
        "opened with `searchable=False`. Set it alike for clients, gateways and workers.",
    )
    memory_text_limit_bytes: int = Field(32 * 1024, ge=1, description="Largest text of one memory.")
    memory_limit: int = Field(100_000, ge=1, description="Largest number of memories of one session or one user.")
    knowledge_urls: Literal["off", "public", "any"] = Field(
        "off",
        description="Whether workers fetch documents by URL: not at all, from public addresses, or from any, including "
        "private ones (but never from clouds' metadata servers).",
    )
    knowledge_texts: Literal["auto", "index", "store"] = Field(
        "auto",
        description="Where the texts of chunks are stored: in Qdrant (`index`), or in Redis, while Qdrant has only "
        "ids and vectors (`store`). `auto`: `store` with `SESSIONFLEET_ENCRYPTION_KEYS`, otherwise `index`.",
    )
    webhook_secrets: SecretStr | None = Field(
        None,
        description="Secrets that sign webhooks: `whsec_...`, comma separated. All of them sign, so that receivers can "
        "change from one to the next. `sessionfleet keys webhook --new` generates one. Unset: `webhook=` is refused.",
    )
    webhook_urls: Literal["public", "any", "off"] = Field(
        "public",
        description="Whether workers send webhooks: to public addresses, to any, including private ones (but never to "
        "clouds' metadata servers), or not at all.",
    )
    allowed_hosts: Names = Field(
        (),
        description="Hosts that webhooks, and documents and files by URL, may use even though their addresses are "
        "private: `wiki.internal` or `wiki.internal:8080`, comma separated.",
    )
    webhook_period: float = Field(
        86400.0,
        gt=0,
        le=30 * 86400,
        description="Seconds for which a webhook is retried; then it becomes a dead letter.",
    )
    webhook_timeout: float = Field(15.0, gt=0, le=300, description="Seconds within which a receiver must answer.")
    webhook_pauses: Numbers = Field(
        (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0),
        min_length=1,
        description="Pauses in seconds between the tries of a webhook, comma separated; the last one repeats.",
    )
    archive: SecretStr | None = Field(
        None,
        description="Where workers write each committed turn, not encrypted: `sqlite:///<path>`, `jsonl:<path>` or "
        "`postgresql://...` (extra `archive`). Set it alike for all workers (docs/archive.md). Unset: nowhere.",
    )
    turn_model_calls: int = Field(
        0, ge=0, description="How often a turn may ask a model; 0: no limit. Read by the workers, as the next one."
    )
    turn_tool_calls: int = Field(0, ge=0, description="How many tool calls a turn may make; 0: no limit.")
    budget_turn_tokens: int | None = Field(
        None,
        ge=0,
        description="Tokens that a turn may use, unless `sessionfleet budget` or the message says otherwise; unset: no "
        "limit. The budgets are read by the workers (docs/usage-and-budgets.md).",
    )
    budget_turn_cost: float | None = Field(None, ge=0, description="US dollars that a turn may cost; unset: no limit.")
    budget_session_tokens: int | None = Field(None, ge=0, description="Tokens that a session may use in all.")
    budget_session_cost: float | None = Field(None, ge=0, description="US dollars that a session may cost in all.")
    budget_user_tokens: int | None = Field(None, ge=0, description="Tokens that a user may use on a day (UTC).")
    budget_user_cost: float | None = Field(None, ge=0, description="US dollars that a user may cost on a day.")
    budget_tenant_tokens: int | None = Field(None, ge=0, description="Tokens that a tenant may use on a day (UTC).")
    budget_tenant_cost: float | None = Field(None, ge=0, description="US dollars that a tenant may cost on a day.")
    prices: str = Field(
        "",
        description="Prices of models in US dollars per million tokens, for models that pydantic-ai's list does not "
        'have, or instead of it: `{"<provider>:<model>": {"input": 0.5, "output": 2}}`, optionally with `cache_read` '
        "and `cache_write`. Read by the workers.",
    )
    usage_days: int = Field(
        400,
        ge=0,
        le=4000,
        description="Days for which the usage of each tenant, user and model is kept; 0: it is not counted. Read by "
        "the workers (docs/usage-and-budgets.md).",
    )
    gateway_host: str = Field("127.0.0.1", min_length=1, description="The address that `sessionfleet gateway` binds.")
    gateway_port: int = Field(8000, ge=0, le=65535, description="The port of the gateway; 0 chooses a free one.")
    gateway_auth: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether callers of the gateway must authenticate. `auto`: yes, unless it is bound to loopback and "
        "there is neither an API key nor `SESSIONFLEET_GATEWAY_JWKS`.",
    )
    gateway_jwks: str | None = Field(
        None,
        description="The keys that verify bearer tokens (JWT): a file, or an https URL. Unset: only API keys are "
        "accepted.",
    )
    gateway_jwt_issuer: str | None = Field(None, description="The `iss` that tokens must have.")
    gateway_jwt_audience: str | None = Field(None, description="The `aud` that tokens must have.")
    gateway_jwt_tenant_claim: str = Field(
        "tenant",
        min_length=1,
        description="The claim that names the tenant; if a token lacks it, `SESSIONFLEET_TENANT`.",
    )
    gateway_rate: int = Field(
        600,
        ge=0,
        description="Requests per minute of one API key or one token's user; 0: no limit. A key may have its own "
        "limit.",
    )
    gateway_concurrency: int = Field(
        200,
        ge=0,
        description="Requests and streams that one API key or token's user may have open at once; 0: no limit.",
    )
    tenant_turns_per_minute: int = Field(
        0,
        ge=0,
        description="Turns of one tenant that are accepted in any minute; 0: no limit. `sessionfleet limits set` gives "
        "a tenant or user limits of its own.",
    )
    tenant_turns_in_flight: int = Field(
        0, ge=0, description="Turns of one tenant that may be queued or running at once; 0: no limit."
    )
    tenant_open_turns: int = Field(
        0,
        ge=0,
        description="Turns of one tenant that may be open, also waiting for an answer or for their time; 0: no limit.",
    )
    tenant_sessions: int = Field(0, ge=0, description="Sessions that one tenant may have; 0: no limit.")
    user_turns_per_minute: int = Field(
        0, ge=0, description="Turns of one user that are accepted in any minute; 0: no limit."
    )
    user_turns_in_flight: int = Field(
        0, ge=0, description="Turns of one user that may be queued or running at once; 0: no limit."
    )
    user_open_turns: int = Field(0, ge=0, description="Turns of one user that may be open; 0: no limit.")
    user_sessions: int = Field(0, ge=0, description="Sessions that one user may have; 0: no limit.")
    gateway_cors: Names = Field((), description="Origins whose pages may call the gateway, comma separated.")

    connect_timeout: float = Field(2.0, gt=0, description="Seconds after which an unreachable server is an error.")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_json: bool = Field(False, description="Log one JSON object per line.")

    @field_validator("imports", "queues", "hooks", "gateway_cors", "allowed_hosts", "webhook_pauses", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("gateway_cors")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.match(origin):
                raise ValueError(
                    f"{origin!r} is no origin: write them out, as https://app.example.org (no path, no '*')"
                )
        return value

    @field_validator("tenant")
    @classmethod
    def _tenant_name(cls, value: str) -> str:
        if problem := name_problem(value, LONGEST_TENANT):
            raise ValueError(problem)
        return value

    @field_validator("queues")
    @classmethod
    def _queue_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(queue_name(name) for name in value)

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or (value == "" and info.field_name == "broker_url"):
            return None
        (SentinelUrl if is_sentinel(value) else RedisUrl).parse(value)
        return value.strip()

    @field_validator("qdrant_url")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            check_readable(value)
        return value

    @model_validator(mode="after")
    def _one_database(self) -> Settings:
        if self.redis_cluster and self.redis_url is not None:
            if is_sentinel(self.redis_url):
                raise ValueError("a Redis Cluster has no sentinels: unset SESSIONFLEET_REDIS_CLUSTER, or name a node")
            url = RedisUrl.parse(self.redis_url)
            if url.path or url.db:
                raise ValueError("a Redis Cluster has one database and no unix socket: redis://host:6379")
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Without passwords, because settings end up in logs and tracebacks."""
        for name, value in super().__repr_args__():
            yield name, without_secrets(value) if isinstance(value, str) and "://" in value else value

    @field_validator("encryption_keys")
    @classmethod
    def _keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_keys(value.get_secret_value())
        return value

    @field_validator("prices")
    @classmethod
    def _known_prices(cls, value: str) -> str:
        parse_prices(value)
        return value

    @field_validator("archive")
    @classmethod
    def _archive_address(cls, value: SecretStr | None) -> SecretStr | None:
        known = ("sqlite:///", "jsonl:", "postgresql://", "postgres://")
        if value is not None and not value.get_secret_value().startswith(known):
            raise ValueError("use sqlite:///<path>, jsonl:<path> or postgresql://<user>@<host>/<database>")
        return value

    @field_validator("webhook_secrets")
    @classmethod
    def _secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_secrets(value.get_secret_value())
        return value

    @field_validator("knowledge_texts")
    @classmethod
    def _no_open_texts(cls, value: str, info: ValidationInfo) -> str:
        if value == "index" and info.data.get("encryption_keys") is not None:
            raise ValueError(
                f"Qdrant would store the documents' texts unencrypted; unset this, or unset {PREFIX}ENCRYPTION_KEYS"
            )
        return value

    @property
    def texts_in_store(self) -> bool:
        """Whether the texts of chunks are in the store instead of the index."""
        if self.knowledge_texts == "auto":
            return self.encryption_keys is not None
        return self.knowledge_texts == "store"

    @property
    def embedded(self) -> bool:
        """Whether the store is the bundled server."""
        return self.redis_url is None

    @property
    def served(self) -> tuple[str, ...]:
        """The queues of a worker of this role."""
        turns = () if self.role == RETRIEVAL else self.queues
        return turns if self.role == "turns" else (*turns, RETRIEVAL)


def queue_name(name: str) -> str:
    """The full name of a queue: `vip` and `turns.vip` both mean `turns.vip`; `turns` and `retrieval` stay as they are.

    Raises:
        SettingsError: the name contains characters that are not allowed in a queue name.
    """
    if not name or not all(c.isalnum() or c in "._-" for c in name):
        raise SettingsError(f"queue {name!r}: use letters, digits, '.', '_' and '-'")
    return name if name in ("turns", RETRIEVAL) or name.startswith("turns.") else f"turns.{name}"


def variable(field: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return next(str(choice) for choice in alias.choices if str(choice).isupper())
    return PREFIX + field.upper()


def _refuse_unknown(names: Iterable[str]) -> None:
    known = {variable(field) for field in Settings.model_fields}
    for name in names:
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/settings.md lists the settings"
            raise SettingsError(f"unknown setting {name!r}: {hint}")


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Read the environment, once per process.

    Raises:
        SettingsError: a variable is unknown, or its value is not valid; the message names it.
    """
    _refuse_unknown(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_said(error)) from None


def _said(error: ValidationError) -> str:
    first = error.errors()[0]
    says = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # of several settings together
        return says
    name = str(first["loc"][0])
    name = name if name.isupper() else variable(name)
    if name == _OWN_BROKER and name not in os.environ and _THEIR_BROKER in os.environ:
        # The user's own Celery application may have exported it.
        return f"setting {_THEIR_BROKER}: {says}. If it is meant for another application, set {_OWN_BROKER} as well"
    # URLs can contain passwords, and keys and secrets must not be shown.
    shown = (
        ""
        if name.endswith(("_URL", "_KEY", "_KEYS", "_SECRETS", "_JWKS", "_ARCHIVE"))
        else f" (it is {first.get('input')!r})"
    )
    return f"setting {name}: {says}{shown}"
