"""`python -m workers`: Celery's worker command alone, for processes that are workers and nothing else.

`celery -A workers worker` runs the same command; Celery's whole command line, which it imports first, takes 12 MB for
a shell and for its plugins, Flower among them.
"""

from __future__ import annotations

from sessions.own_packages import HiddenPackage, require_own

try:  # `python -m` looks in the working directory first; see workers/celery.py
    require_own("workers", "sessions", "broker_config")
except HiddenPackage as error:
    raise SystemExit(f"the worker cannot start: {error}") from None

from celery.bin.base import CLIContext
from celery.bin.worker import worker

from broker_config.telemetry import configure_logging
from workers.celery import app, settings

if __name__ == "__main__":
    configure_logging(settings)  # Celery does so too, but warns before it of running as root
    worker.main(prog_name="python -m workers", obj=CLIContext(app, no_color=False, workdir=None, quiet=True))
