"""What is built and started from the repository's files: image, containers, locks, Makefile."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from qdrant_client.common.version_check import is_compatible

from broker_config.settings import Settings
from tests.support.fleet import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = [name for name, service in COMPOSE["services"].items() if "build" in service]
FOREIGN = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"}


def locked(name: str) -> dict[str, set[str]]:
    """Package -> its pinned versions (one for each marker)."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        pin = Requirement(line)
        found.setdefault(pin.name, set()).add(str(pin.specifier))
    return found


def test_what_runs_is_locked_without_what_only_tests_need() -> None:
    """`make demo` and the image install the one, `make test` adds the other, in the same versions."""
    runs, develops = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {name: versions for name, versions in runs.items() if develops.get(name) != versions} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    direct = {Requirement(line).name for extra in ("worker", "gateway", "documents") for line in extras[extra]}
    assert direct | {Requirement(line).name for line in project["dependencies"]} <= runs.keys()
    only_tests = {Requirement(line).name for line in extras["dev"]} & runs.keys()
    # The one builds the package itself; the others come with a vendor's client, and with uvicorn's and Qdrant's.
    assert only_tests <= {"setuptools", "websockets", "pyyaml"}


def test_the_qdrant_server_is_one_that_the_client_supports() -> None:
    """The client demands the same major version, and at most one minor version between."""
    server = COMPOSE["services"]["qdrant"]["image"].rpartition(":v")[2]
    (client,) = locked("requirements.lock")["qdrant-client"]
    assert is_compatible(client.removeprefix("=="), server)


def test_the_image_is_made_of_what_reaches_the_builder() -> None:
    """All that the Dockerfile copies is let through by .dockerignore, and nothing else; sources come last."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.M) for name in line.split()]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == {*copied}
    assert dockerfile.index("-r requirements.lock") < dockerfile.index("COPY sessions")
    assert "dev" not in dockerfile


@pytest.mark.parametrize("service", OURS)
def test_containers_get_settings_that_there_are(service: str) -> None:
    """A misspelt one would end the process; those without a value come from the shell."""
    names = {
        alias for name, field in Settings.model_fields.items()
        for alias in (f"SESSIONFLEET_{name.upper()}", *getattr(field.validation_alias, "choices", ()))
    }  # fmt: skip
    given = COMPOSE["services"][service]["environment"]
    assert {name for name in given if name not in names} <= FOREIGN
    passed_on = {"SESSIONFLEET_IMPORTS", "SESSIONFLEET_ENCRYPTION_KEYS", "SESSIONFLEET_WEBHOOK_SECRETS"}
    assert {name for name in passed_on | FOREIGN if name not in given or given[name] is not None} == set()
