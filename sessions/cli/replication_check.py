"""The doctor's look at a server's replicas: what a failover would lose."""

from __future__ import annotations

from typing import Any

from sessions.cli.verdicts import Check, Verdict


def replication_check(info: dict[str, Any]) -> Check:
    """Whether a server is a primary, and takes writes only while a replica gets them."""
    if info.get("role") == "slave":
        advice = "let REDIS_URL name the primary, by a name that follows failovers, or name its sentinels"
        return Check("replication", Verdict.BROKEN, "this server is a replica: it takes no writes", advice)
    count = int(info.get("connected_slaves", 0))
    if not count:
        return Check("replication", Verdict.OK, "no replicas")
    says = f"{count} replica" + ("s" if count > 1 else "")
    if "min_slaves_good_slaves" in info:  # INFO has it only where writes need a replica
        return Check("replication", Verdict.OK, f"{says}; writes need one")
    advice = (
        "set `min-replicas-to-write 1` on all servers: a primary that is cut off, or that Sentinel has just replaced, "
        "goes on to take writes, and they are lost"
    )
    return Check("replication", Verdict.WARNING, f"{says}, but the server takes writes without them", advice)
