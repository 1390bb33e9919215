"""Whether a fleet can run a request. Checked on submission, so that the caller gets the error, not a later turn."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from broker_config.settings import RETRIEVAL, Settings
from sessions.client.addresses import AddressPolicy
from sessions.errors import AddressRefused, BadRequest, UnknownAgent, UnknownHooks, UnknownModel, UnknownTool
from sessions.own_packages import hidden_here, own_path
from sessions.protocol.agent import AgentConfig
from sessions.protocol.worker_info import WebhookOffer, WorkerInfo


def refuse_unknown(agent: AgentConfig, serving: list[WorkerInfo], queue: str) -> None:
    """Refuse an agent if none of the workers that serve the queue can run it.

    Raises:
        UnknownTool, UnknownAgent, UnknownModel, UnknownHooks: the message lists what the workers know.
    """
    known = {name for w in serving for name in w.tools}
    missing = [name for name in agent.tools if name not in known]
    if missing:
        raise UnknownTool(
            f"no worker of the queue {queue!r} knows the tool {missing[0]!r} (known: {_listed(known)}): "
            "add its module to SESSIONFLEET_IMPORTS and restart the workers (with the auto-started fleet, set it in "
            "this script's environment)"
        )
    if unknown := [name for name in agent.hooks if not any(name in w.hooks for w in serving)]:
        known = {name for w in serving for name in w.hooks}
        raise UnknownHooks(f"no worker of the queue {queue!r} has hooks named {unknown[0]!r} (known: {_listed(known)})")
    if agent.registered and agent.name not in {name for w in serving for name in w.agents}:
        raise UnknownAgent(f"no worker of the queue {queue!r} has an agent registered as {agent.name!r}")
    if agent.models and not any(all(_resolves(worker, model) for model in agent.models) for worker in serving):
        nowhere = (model for model in agent.models if not any(_resolves(worker, model) for worker in serving))
        model = next(nowhere, agent.models[-1])
        raise UnknownModel(
            f"no worker of the queue {queue!r} can resolve the model {model!r}: {_advice(model, serving)}"
        )


def _resolves(worker: WorkerInfo, model: str) -> bool:
    provider, colon, _ = model.partition(":")
    return model in worker.models or bool(colon and provider in worker.providers)


def _advice(model: str, serving: list[WorkerInfo]) -> str:
    models = {m for w in serving for m in w.models}
    providers = {p for w in serving for p in w.providers}
    provider, colon, rest = model.partition(":")
    near = difflib.get_close_matches(provider, providers, n=1)
    if colon and near:
        return f"did you mean {f'{near[0]}:{rest}'!r}?"
    registered = f"or one of the registered names ({_listed(models)})"
    if not colon:
        return f"use provider:model, such as 'openai:gpt-5' or 'anthropic:claude-sonnet-4-5', {registered}"
    return f"use provider:model with one of the providers {_listed(providers)}, {registered}"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def webhooks_of(settings: Settings) -> WebhookOffer:
    """Which webhooks a worker with these settings sends."""
    hosts = tuple(host.lower() for host in settings.allowed_hosts)
    signed = settings.webhook_secrets is not None or settings.webhook_urls == "off"
    return WebhookOffer(to=settings.webhook_urls if signed else "unsigned", hosts=hosts)


def refuse_webhook(url: str, offers: Sequence[WebhookOffer], queue: str) -> None:
    """Refuse a webhook that no worker of the queue would send, as far as the URL shows without resolving its host.

    Raises:
        BadRequest: the message says what to set.
    """
    sending = [offer for offer in offers if offer.to in ("public", "any")]
    if sending:
        policies = [AddressPolicy(offer.to == "any", frozenset(offer.hosts)) for offer in sending]
        if all(policy.refuses_url(url) for policy in policies):
            raise AddressRefused(
                f"webhook: its address is not public, and the workers of the queue {queue!r} do not send there; add "
                "its host to SESSIONFLEET_ALLOWED_HOSTS and restart the workers"
            )
        return
    if any(offer.to == "off" for offer in offers):
        raise BadRequest(
            f"the workers of the queue {queue!r} send no webhooks, because SESSIONFLEET_WEBHOOK_URLS is `off`: "
            "unset it and restart the workers"
        )
    raise BadRequest(
        f"no worker of the queue {queue!r} has a secret to sign webhooks with: `sessionfleet keys webhook --new` "
        "prints one; set it as SESSIONFLEET_WEBHOOK_SECRETS and restart the workers (with the auto-started fleet, set "
        "it in this script's environment)"
    )


def start_hint(queue: str) -> str:
    """The command that starts a worker for a queue."""
    if queue == RETRIEVAL:
        return "start one with `sessionfleet worker --role retrieval`"
    extra = "" if queue == "turns" else f" --queues {queue}"
    return f"start one with `sessionfleet worker{extra}`{_not_by_celery()}"


def _not_by_celery() -> str:
    """A warning if `celery -A workers` in this directory starts the user's application instead of our worker."""
    theirs = hidden_here("workers")
    if theirs is None:
        return ""
    return f" (not with `celery -A workers` here: it imports {theirs!r} instead of {own_path('workers')!r})"
