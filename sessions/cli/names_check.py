"""The doctor's check of this directory: whether a module in it has the name of one of our packages."""

from __future__ import annotations

from sessions.cli.verdicts import Check, Verdict
from sessions.own_packages import NAMES, hidden_here, own_path


def names_check() -> Check:
    """Only a warning: `sessionfleet` commands find their own packages, and clients may run in other directories."""
    found = {name: place for name in NAMES if (place := hidden_here(name)) is not None}
    if not found:
        return Check("names", Verdict.OK, f"nothing here hides {', '.join(NAMES)}")
    says = "; ".join(f"{place!r} hides Sessionfleet's {own_path(name)!r}" for name, place in found.items())
    advice = []
    if "workers" in found:
        advice.append(
            "`celery -A workers` and `python -m workers` do not start Sessionfleet's workers in this directory: use "
            "`sessionfleet worker`"
        )
    if clients := [f"`{name}`" for name in found if name != "workers"]:
        cannot = "scripts in this directory cannot `import sessions`, and `celery -A workers` fails"
        advice.append(f"{cannot}: rename {' and '.join(clients)}")
    return Check("names", Verdict.WARNING, says, "; ".join(advice))
