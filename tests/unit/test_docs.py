"""The documents say what the code does: keys, settings, states, files and links."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from sessions.protocol.turn import TRANSITIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LUA = sorted((ROOT / "sessions" / "store" / "lua").rglob("*.lua"))


def listed_keys() -> set[str]:
    """The first column of the tables of docs/keys.md, and the other names in backticks."""
    return set(re.findall(r"`(<[SPFLDTBR]>:[^`]+)`", (DOCS / "keys.md").read_text()))


def parts_of(keys: set[str]) -> set[str]:
    """The fixed parts of keys: `<S>:turn:<id>:events` has turn and events."""
    return {part.partition("~<")[0] for key in keys for part in key.split(":")[1:] if not part.startswith("<")}


def used_in_lua() -> set[str]:
    """The parts that scripts append to their bases, and the names of the keys that a session has."""
    used: set[str] = set()
    for path in LUA:
        code = re.sub(r"--[^\n]*", "", path.read_text())
        for text in re.findall(r"\.\. '(:[a-z_:]+)'", code):
            used |= set(filter(None, text.split(":")))
        for names in re.findall(r"SESSION_KEYS = \{([^}]*)\}", code):
            used |= {part for name in re.findall(r"'([\w:]+)'", names) for part in name.split(":")}
    return used


def used_in_python() -> set[str]:
    """The parts that keys.py and its neighbours append to their bases."""
    used: set[str] = set()
    for path in (ROOT / "sessions" / "store").glob("*.py"):
        for text in re.findall(r"""f"\{[\w.()]+\}((?::(?:[a-z]+|\{\w+\}))+)(?=")""", path.read_text()):
            used |= {part for part in text.split(":") if part and not part.startswith("{")}
    return used


def test_every_key_is_listed() -> None:
    """A key that docs/keys.md does not list is one whose lifetime was not thought about (P9)."""
    lua, python = used_in_lua(), used_in_python()
    assert {"lease", "mailbox", "wakeups", "fence", "idem"} <= lua
    assert {"mailbox", "events", "worker", "partitions"} <= python
    assert lua | python <= parts_of(listed_keys())


def test_no_key_is_listed_that_is_not_there() -> None:
    """A key that was removed from the code must leave the page too."""
    assert parts_of(listed_keys()) <= used_in_lua() | used_in_python()


def generator() -> ModuleType:
    """docs/generate_settings.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_settings", DOCS / "generate_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_is_listed_with_its_default() -> None:
    """docs/settings.md is what `python docs/generate_settings.py` writes."""
    assert (DOCS / "settings.md").read_text() == generator().page(), "run `python docs/generate_settings.py`"


def test_settings_that_pages_name_exist() -> None:
    """No page names a setting that would be refused as unknown."""
    module = generator()
    known = {module.variable(name) for name in module.Settings.model_fields}
    for page in PAGES:
        named = set(re.findall(r"SESSIONFLEET_[A-Z_]+[A-Z]", page.read_text()))
        assert named <= known, page.name


def test_the_state_diagram_is_the_state_machine() -> None:
    """docs/architecture.md draws exactly the transitions of sessions/protocol/turn.py."""
    drawn = re.findall(r"^    (\w+) --> (\w+)", (DOCS / "architecture.md").read_text(), re.M)
    allowed = {(str(status), str(following)) for status, nexts in TRANSITIONS.items() for following in nexts}
    assert set(drawn) == allowed


def test_functions_that_pages_name_exist() -> None:
    """`path.py:name` on a page is a function or class of that file."""
    named = [found for page in PAGES for found in re.findall(r"`([\w/]+\.py):(\w+)`", page.read_text())]
    assert len(named) > 20
    missing = [
        f"{path}:{name}"
        for path, name in named
        if not (ROOT / path).exists() or not re.search(rf"(def|class) {name}\b", (ROOT / path).read_text())
    ]
    assert not missing


def test_scripts_that_pages_name_exist() -> None:
    """`name.lua` on a page is a script."""
    named = {name for page in PAGES for name in re.findall(r"`(\w+\.lua)`", page.read_text())}
    assert named <= {path.name for path in LUA}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link is a file or folder of the project."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_containers_are_those_of_the_fleet() -> None:
    """docker-compose.yml can be read, and its workers have the time that a warm shutdown takes."""
    from broker_config.settings import Settings

    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"redis", "qdrant", "worker", "retrieval", "gateway", "flower"}
    roles = {name: services[name]["environment"]["SESSIONFLEET_ROLE"] for name in ("worker", "retrieval")}
    assert roles == {"worker": "turns", "retrieval": "retrieval"}
    assert services["retrieval"]["environment"]["QDRANT_URL"] == "http://qdrant:6333"
    assert services["retrieval"]["depends_on"].keys() == {"redis", "qdrant"}
    assert "noeviction" in services["redis"]["command"]
    assert services["worker"]["environment"]["REDIS_URL"] == "redis://redis:6379/0"
    assert (ROOT / services["worker"]["build"]["dockerfile"]).exists()
    settings = Settings()
    grace = min(float(services[name]["stop_grace_period"].removesuffix("s")) for name in ("worker", "retrieval"))
    assert grace >= settings.shutdown_grace + settings.tool_grace + 15
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published), "nothing here has a password"


def test_decision_records_are_numbered_and_linked() -> None:
    """Numbers have no gap and head their pages; another page links to each record, where its subject comes up."""
    records = sorted((DOCS / "adr").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    assert all(record.read_text().startswith(f"# {record.name[:4]}: ") for record in records)
    pages = "".join(page.read_text() for page in DOCS.glob("*.md"))
    assert [record.name for record in records if f"](adr/{record.name})" not in pages] == []


def test_promises_and_rules_that_comments_cite_are_defined() -> None:
    """P1 to P10 and R1 to R18, in comments, docstrings, tests and pages, are those of docs/protocol.md."""
    page = (DOCS / "protocol.md").read_text()
    defined = set(re.findall(r"\*\*([PR]\d+)[*. ]", page))
    assert {f"P{n}" for n in range(1, 11)} | {f"R{n}" for n in range(1, 19)} == defined
    sources = [
        path for name in ("broker_config", "sessions", "workers", "tests", "docs") for path in (ROOT / name).rglob("*")
    ]
    cited = {
        citation
        for path in sources
        if path.suffix in {".py", ".lua", ".md"}
        for citation in re.findall(r"\b[PR]\d{1,2}\b", path.read_text())
    }
    assert cited <= defined
