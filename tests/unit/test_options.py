"""The options of a message or document: what they are is said in one place, and a wrong one names the public method."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest

from sessions import Agent, DocumentOptions, Session, TurnOptions

MESSAGE_METHODS = [
    *(getattr(Agent, name) for name in ("achat", "chat", "astart", "start", "astream", "stream", "asubmit", "submit")),
    *(getattr(Session, name) for name in ("achat", "chat", "asend_message", "send_message")),
]
DOCUMENT_METHODS = [
    getattr(Session, name) for name in ("aadd_knowledge", "add_knowledge", "asubmit_knowledge", "submit_knowledge")
]


@pytest.mark.parametrize(
    ("method", "options"),
    [*((m, TurnOptions) for m in MESSAGE_METHODS), *((m, DocumentOptions) for m in DOCUMENT_METHODS)],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_help_lists_every_option(method: Callable[..., Any], options: type) -> None:
    """`help()` and `inspect.signature` show the keywords, not `**options`."""
    parameters = inspect.signature(method).parameters
    assert parameters.keys() >= set(options.__annotations__)
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in options.__annotations__)
    assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())


def test_every_option_becomes_part_of_the_submission() -> None:
    """`Agent.submission` takes exactly the options that the methods list, and `stream`."""
    keywords = {
        name for name, each in inspect.signature(Agent.submission).parameters.items() if each.kind is each.KEYWORD_ONLY
    }
    assert keywords == {*TurnOptions.__annotations__, "stream"}


@pytest.mark.parametrize("name", ["chat", "start", "submit", "stream"])
def test_an_unknown_keyword_names_the_method_that_was_called(name: str) -> None:
    """Not a private one that the user has never heard of; and the keyword that was probably meant."""
    agent = Session("a").Agent()
    with pytest.raises(TypeError, match=rf"^Agent\.{name}\(\) got .* 'polic'; did you mean 'policy'\?$"):
        getattr(agent, name)("Hi", polic="reject")


async def test_an_unknown_keyword_names_the_async_method() -> None:
    """The async forms say their own names."""
    agent = Session("a").Agent()
    with pytest.raises(TypeError, match=r"^Agent\.achat\(\) got .* 'polic'"):
        await agent.achat("Hi", polic="reject")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Session\.asubmit_knowledge\(\) got .* 'nam'; did you mean 'name'\?$"):
        await Session("a").asubmit_knowledge("text", nam="x")  # type: ignore[call-arg]


def test_wrong_arguments_of_any_derived_method_name_the_session() -> None:
    """The class and method that the user called, not the mixin and the async form behind them."""
    session = Session("a")
    with pytest.raises(TypeError, match=r"^Session\.history\(\) got an unexpected keyword argument 'foo'"):
        session.history(foo=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Session\.turn\(\) missing 1 required positional argument"):
        session.turn()  # type: ignore[call-arg]


def test_a_session_refuses_unknown_keywords_unless_it_is_remote() -> None:
    """A remote session may talk to a server that is not a gateway, which gets further keywords as fields."""
    with pytest.raises(TypeError, match=r"^Session\.chat\(\) got an unexpected keyword argument 'temperature'"):
        Session("a").chat("Hi", temperature=0.2)  # type: ignore[call-arg]


def test_async_methods_stay_coroutine_functions() -> None:
    """So mocks of an agent can be awaited."""
    assert inspect.iscoroutinefunction(Agent.achat)
    assert isinstance(create_autospec(Agent).achat, AsyncMock)
