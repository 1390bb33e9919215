"""The check of a server's replicas: what a failover would lose."""

from __future__ import annotations

from typing import Any

from sessions.cli.verdicts import Check, Verdict


def replication_check(info: dict[str, Any]) -> Check:
    """Whether a server is a primary, and accepts writes only while a replica receives them."""
    if info.get("role") == "slave":
        advice = "let REDIS_URL name the primary, by a name that follows failovers, or name its sentinels"
        return Check("replication", Verdict.BROKEN, "this server is a replica: it accepts no writes", advice)
    count = int(info.get("connected_slaves", 0))
    if not count:
        return Check("replication", Verdict.OK, "no replicas")
    says = f"{count} replica" + ("s" if count > 1 else "")
    if "min_slaves_good_slaves" in info:  # INFO has this field only if writes need a replica
        return Check("replication", Verdict.OK, f"{says}; writes need one")
    advice = (
        "set `min-replicas-to-write 1` on all servers: otherwise a primary that is cut off, or that Sentinel has "
        "just replaced, continues to accept writes, which are lost"
    )
    return Check("replication", Verdict.WARNING, f"{says}, but the server accepts writes without them", advice)
