"""The check of webhooks."""

from __future__ import annotations

from broker_config.settings import RETRIEVAL
from sessions.cli.verdicts import Check, Verdict
from sessions.store.activity import Activity


def webhook_check(seen: Activity) -> Check:
    """Whether the running turn workers send webhooks, and all with the same settings. Sending none is not a problem."""
    offers = {w.webhooks.to for w in seen.workers if set(w.queues) - {RETRIEVAL}}
    if not offers:
        return Check("webhooks", Verdict.OK, "no running worker could send them")
    if offers <= {"unsigned"}:
        return Check("webhooks", Verdict.OK, "none: `sessionfleet keys webhook --new` generates a secret for them")
    if offers <= {"off"}:
        return Check("webhooks", Verdict.OK, "none: SESSIONFLEET_WEBHOOK_URLS is off")
    if len(offers) > 1:
        says = f"workers differ: {', '.join(sorted(offers))}"
        return Check("webhooks", Verdict.WARNING, says, "set SESSIONFLEET_WEBHOOK_... alike for all")
    where = "to public addresses" if "public" in offers else "to any address, including private ones"
    return Check("webhooks", Verdict.OK, f"signed, {where}")
