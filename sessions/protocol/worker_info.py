"""What a running worker reports about itself, in the store's catalog of workers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sessions.protocol.version import WIRE_VERSION, WireVersion


class WebhookOffer(BaseModel):
    """A worker's settings for webhooks.

    Attributes:
        to: which addresses it sends to, or why it sends none: `unsigned` means that it has no secret to sign with.
        hosts: hosts to which it sends although their addresses are private.
    """

    model_config = ConfigDict(frozen=True)

    to: Literal["public", "any", "unsigned", "off"] = "off"
    hosts: tuple[str, ...] = ()


class WorkerInfo(BaseModel):
    """What a running worker reports about itself, so that clients can refuse what no worker knows."""

    model_config = ConfigDict(frozen=True)

    v: WireVersion = WIRE_VERSION
    id: str
    host: str
    pid: int
    started: float
    queues: tuple[str, ...]
    concurrency: int
    running: int = 0
    turns_done: int = Field(0, description="Turns that it has ended, and searches that it has answered directly.")
    tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    models: tuple[str, ...] = Field((), description="Models registered by name, `offline` among them.")
    providers: tuple[str, ...] = Field((), description="Prefixes of `provider:model` names this worker can resolve.")
    hooks: tuple[str, ...] = ()
    imports: tuple[str, ...] | None = Field(None, description="SESSIONFLEET_IMPORTS; None from workers before 0.1.0.")
    default_model: str = "offline"
    version: str = ""
    webhooks: WebhookOffer = WebhookOffer()
    searches: str = Field("", description="Where it receives searches directly; empty if it does not.")
