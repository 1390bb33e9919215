"""The tools of agents with memory or knowledge: to search, to remember, to correct and to forget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic_ai import ModelRetry, Tool

from sessions.errors import BadRequest
from sessions.protocol.agent import AgentConfig
from sessions.tools.decorator import ToolSpec
from workers.engine.ports import Recall, SearchUnavailable
from workers.engine.scope import current_recall, current_tool

NONE_FOUND = "Nothing was found."
NOT_REMEMBERED = "The fact was not stored: {}."
UNKNOWN_MEMORY = (
    "There is no memory {!r}, so nothing was changed. Give the 8 characters in brackets with which search_memory shows "
    "the memory."
)
NOT_SEARCHED = "The search is not available now: {}. Answer without it, and say so."
_CITED = 3  # other documents with the same passage that are named; a prompt has no room for a hundred


async def remember(fact: str) -> str:
    """Remember a lasting fact about the user or the matter at hand, for later conversations.

    If it replaces something that you remember, use correct_memory instead.

    Args:
        fact: one short sentence that can be understood by itself
    """
    if not fact.strip():
        raise ModelRetry("Give the fact as a sentence.")
    try:
        await _recall().remember(current_tool.get().idempotency_key, fact)
    except BadRequest as error:
        return NOT_REMEMBERED.format(error)
    return "Remembered."


async def correct_memory(memory: str, fact: str) -> str:
    """Correct something that you remember and that is wrong or has changed.

    Args:
        memory: the 8 characters in brackets with which the memory is shown, such as 1a2b3c4d
        fact: how it should be remembered from now on: one short sentence that can be understood by itself
    """
    if not fact.strip():
        raise ModelRetry("Give the fact as a sentence, or use forget_memory.")
    try:
        done = await _recall().correct(current_tool.get().idempotency_key, memory, fact)
    except BadRequest as error:
        return NOT_REMEMBERED.format(error)
    return "Corrected." if done else UNKNOWN_MEMORY.format(memory)


async def forget_memory(memory: str) -> str:
    """Forget something that you remember, for instance because the user asks for it.

    Args:
        memory: the 8 characters in brackets with which the memory is shown, such as 1a2b3c4d
    """
    done = await _recall().forget(current_tool.get().idempotency_key, memory)
    return "Forgotten." if done else UNKNOWN_MEMORY.format(memory)


async def search_memory(query: str) -> str:
    """Search what is remembered from earlier conversations; of two that contradict each other, the newer one holds.

    Args:
        query: what to look for, in a few words
    """
    try:
        found = await _recall().search_memory(query)
    except SearchUnavailable as error:
        return NOT_SEARCHED.format(error)
    return "\n".join(found) or NONE_FOUND


async def search_knowledge(query: str) -> str:
    """Search the documents of the knowledge base; name the source when you use a passage.

    Args:
        query: what to look for, in a few words
    """
    try:
        found = await _recall().search_knowledge(query)
    except SearchUnavailable as error:
        return NOT_SEARCHED.format(error)
    return "\n\n".join(f"[{cite(item)}]\n{item['text']}" for item in found) or NONE_FOUND


def recall_tools(config: AgentConfig, taken: Sequence[str]) -> list[Tool[Any]]:
    """The recall tools of an agent, without those whose names the agent's own tools have taken."""
    wanted: dict[str, Callable[..., Awaitable[str]]] = {}
    if config.recalls.memory:
        wanted |= {
            "remember": remember,
            "search_memory": search_memory,
            "correct_memory": correct_memory,
            "forget_memory": forget_memory,
        }
    if config.recalls.knowledge:
        wanted["search_knowledge"] = search_knowledge
    return [Tool(function, name=name) for name, function in wanted.items() if name not in taken]


def recall_specs(config: AgentConfig) -> list[ToolSpec]:
    """Their specifications. Repeating a search is safe, and a repeated change is made once."""
    return [ToolSpec(tool.name, retry="safe") for tool in recall_tools(config, config.tools)]


def cite(item: dict[str, Any]) -> str:
    """Where a passage comes from: its document, the page or heading, and other documents that have the same passage."""
    parts = [str(item["source"])]
    if item.get("page") is not None:
        parts.append(f"page {item['page']}")
    elif item.get("heading"):
        parts.append(str(item["heading"]))
    others = list(dict.fromkeys(str(place["source"]) for place in item.get("also_in", ())))
    others = [source for source in others if source != item["source"]]
    if len(others) > _CITED:
        others = [*others[:_CITED], f"{len(others) - _CITED} more"]
    return ", ".join(parts) + (f"; also in {', '.join(others)}" if others else "")


def _recall() -> Recall:
    recall = current_recall.get()
    if recall is None:
        raise RuntimeError("memory and knowledge are available within a turn only")
    return recall
