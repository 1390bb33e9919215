"""The doctor's look at webhooks."""

from __future__ import annotations

from broker_config.settings import RETRIEVAL
from sessions.cli.verdicts import Check, Verdict
from sessions.store.activity import Activity


def webhook_check(seen: Activity) -> Check:
    """Whether the living workers that run turns send any, and all alike. None sent is nothing wrong."""
    offers = {w.webhooks.to for w in seen.workers if set(w.queues) - {RETRIEVAL}}
    if not offers:
        return Check("webhooks", Verdict.OK, "no worker that could send any")
    if offers <= {"unsigned"}:
        return Check("webhooks", Verdict.OK, "none: `sessionfleet keys webhook --new` prints a secret for them")
    if offers <= {"off"}:
        return Check("webhooks", Verdict.OK, "none: SESSIONFLEET_WEBHOOK_URLS is off")
    if len(offers) > 1:
        says = f"workers differ: {', '.join(sorted(offers))}"
        return Check("webhooks", Verdict.WARNING, says, "set SESSIONFLEET_WEBHOOK_... alike for all")
    where = "to public addresses" if "public" in offers else "to any address, private ones too"
    return Check("webhooks", Verdict.OK, f"signed, {where}")
