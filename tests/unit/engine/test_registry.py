"""What a worker finds in its modules, and which models it can resolve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel

from sessions.errors import InvalidImport, InvalidTool, TurnConfigurationError
from sessions.tools.decorator import tool
from workers.engine import Registry, register_agent, register_model
from workers.engine.models import ModelResolver, provider_prefixes
from workers.engine.offline import offline_model

MODULE = """
from pydantic_ai import Agent
from sessions.tools import tool
from workers.engine import register_agent, register_model
from workers.engine.offline import offline_model

@tool
def look(q: str) -> str:
    return q

@tool(name="see")
async def other(q: str) -> str:
    return q

again = look
stub = register_model("stub", offline_model())
support = register_agent("support desk", Agent(stub))
unnamed = Agent(stub)

def plain(): ...
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def test_a_module_gives_its_marked_functions_and_registered_objects(modules: Any) -> None:
    """Only marked objects are registered; under two attributes it is still one object."""
    registry = Registry()
    registry.load([modules("sf_tools_a", MODULE), modules("sf_tools_b", "from sf_tools_a import look, support")])
    assert registry.tool_names == ("look", "see")
    assert registry.agent_names == ("support desk",)
    assert registry.model_names == ("offline", "stub")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("sf_absent.py", None, "module 'sf_absent.py' of SESSIONFLEET_IMPORTS cannot be imported.*not a file name"),
        ("sf_broken", "1/0", "'sf_broken'.*ZeroDivisionError"),
        ("sf_twice", MODULE.replace('name="see"', 'name="look"'), "two tools are named 'look'.*sf_twice.other"),
    ],
)
def test_a_module_that_cannot_be_used_is_named(modules: Any, name: str, text: str | None, says: str) -> None:
    """A worker does not start with half of its modules."""
    if text is not None:
        modules(name, text)
    with pytest.raises(InvalidImport, match=says):
        Registry().load([name])


def test_names_are_taken_once() -> None:
    """Two things of one name are an error, the same thing twice is not."""
    first, second = offline_model(), offline_model()
    registry = Registry()
    registry.add_model("m", first)
    registry.add_model("m", first)
    with pytest.raises(InvalidImport, match="two models are registered as 'm'"):
        registry.add_model("m", second)


@pytest.mark.parametrize(
    ("register", "name", "target", "says"),
    [
        (register_agent, "a", object(), "takes a pydantic_ai.Agent"),
        (register_model, "m", "openai:gpt-5", "takes a pydantic_ai.models.Model"),
        (register_model, "offline", offline_model(), "belongs to the built-in model"),
        (register_model, "a:b", offline_model(), "model name 'a:b'"),
        (register_agent, "", Agent(offline_model()), "agent name ''"),
    ],
)
def test_registering_checks_what_it_is_given(register: Any, name: str, target: Any, says: str) -> None:
    """The error is raised at import, where the mistake is."""
    with pytest.raises(InvalidImport, match=says):
        register(name, target)


def test_registering_returns_the_object_itself() -> None:
    """The module can continue to use the object."""
    agent = Agent(offline_model())
    assert register_agent("support", agent) is agent
    assert register_agent("support", agent) is agent
    with pytest.raises(InvalidImport, match="already registered as 'support'; it cannot also be named 'sales'"):
        register_agent("sales", agent)


def test_an_unmarked_function_cannot_be_added() -> None:
    """The registry accepts only what `@tool` marked."""

    def plain() -> None: ...

    with pytest.raises(InvalidTool, match="not marked"):
        Registry().add_tool(plain)
    Registry().add_tool(tool(plain))


def test_installed_providers_are_listed_without_importing_them() -> None:
    """The list tells clients which models this worker can resolve."""
    prefixes = provider_prefixes()
    assert {"openai", "openai-chat", "anthropic", "google", "ollama"} <= set(prefixes)
    assert not {"test", "groq", "offline"} & set(prefixes)
    assert Registry().providers == prefixes


def test_models_are_resolved_once() -> None:
    """Each model has its own connections."""
    models = ModelResolver({})
    assert models.resolve("offline") is models.resolve("offline")
    assert isinstance(models.resolve("offline"), FunctionModel)


def test_openai_base_url_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local server needs no key."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8089/v1")
    model = ModelResolver({}).resolve("openai-chat:local")
    assert isinstance(model, OpenAIChatModel)
    assert model.base_url == "http://127.0.0.1:8089/v1/"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpt-5", "'gpt-5' is not known to this worker: use 'provider:model'.*offline.*register_model"),
        ("nonsense:x", "Unknown model: nonsense:x.*SESSIONFLEET_MODEL"),
        ("openai:gpt-5", "OPENAI_API_KEY"),
        ("anthropic:claude-sonnet-5-5", "ANTHROPIC_API_KEY"),
        ("groq:llama", "install the `groq` package"),
        ("test", "not known"),
    ],
)
def test_a_model_that_cannot_be_used_says_what_to_do(name: str, says: str) -> None:
    """Unknown names, missing keys and missing packages are configuration errors of the turn."""
    with pytest.raises(TurnConfigurationError, match=says):
        ModelResolver({}).resolve(name)
