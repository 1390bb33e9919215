"""The check of SESSIONFLEET_IMPORTS: what the workers have imported, or whether future workers could."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from broker_config.settings import Settings
from sessions.cli.output import counted
from sessions.cli.verdicts import Check, Verdict
from sessions.own_packages import import_refused
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.activity import Activity

_WHAT = "SESSIONFLEET_IMPORTS names modules with tools, agents and models"


def import_check(seen: Activity | None, settings: Settings) -> Check:
    """What the running workers have imported, how they differ from each other and this shell; else this shell's."""
    if refused := [f"module {name!r} {why}" for name in settings.imports if (why := import_refused(name))]:
        return Check("imports", Verdict.BROKEN, refused[0], "workers with this setting do not start")
    told = [worker for worker in seen.workers if worker.imports is not None] if seen else []
    if not told:
        return _of_this_shell(settings)
    here, theirs = set(settings.imports), {frozenset(worker.imports or ()) for worker in told}
    says = "the workers have " + _listed(told)
    if len(theirs) > 1:
        return Check("imports", Verdict.WARNING, says, f"the workers differ: {_each(told)}")
    if missing := sorted(here - next(iter(theirs))):
        advice = f"this shell also names {', '.join(missing)}: restart the workers to import it"
        return Check("imports", Verdict.WARNING, says, advice)
    return Check("imports", Verdict.OK, says)


def _listed(workers: list[WorkerInfo]) -> str:
    imports = sorted({name for worker in workers for name in worker.imports or ()})
    if not imports:
        return f"none; {_WHAT}"
    known = [
        counted(len({name for worker in workers for name in names(worker)}), what)
        for what, names in (("tool", lambda w: w.tools), ("agent", lambda w: w.agents))
    ]
    return f"{', '.join(imports)}: {' and '.join(known)}"


def _each(workers: list[WorkerInfo]) -> str:
    return "; ".join(f"{worker.id} has {', '.join(worker.imports or ()) or 'none'}" for worker in workers)


def _of_this_shell(settings: Settings) -> Check:
    if not settings.imports:
        return Check("imports", Verdict.OK, f"none in this shell; {_WHAT}")
    missing = [name for name in settings.imports if not _findable(name)]
    if missing:
        advice = f"workers look in their working directory (here {str(Path.cwd())!r}) and on PYTHONPATH"
        return Check("imports", Verdict.BROKEN, f"no module {missing[0]!r}", advice)
    return Check(
        "imports", Verdict.OK, f"{', '.join(settings.imports)} in this shell; no running worker has imported them"
    )


def _findable(name: str) -> bool:
    sys.path.insert(0, str(Path.cwd()))  # workers look there first for these modules
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path.pop(0)
