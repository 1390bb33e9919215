"""Documents taken in one after the other: submit, tell how far it is, wait for the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sessions.errors import SessionfleetError
from sessions.operation import Operation, Progress

Told = Callable[[Progress], Any]


class Adding(Protocol):
    """What of a session this needs."""

    async def asubmit_knowledge(self, source: object, **options: Any) -> Operation:
        """Have one document accepted."""
        ...

    def submit_knowledge(self, source: object, **options: Any) -> Operation:
        """Have one document accepted."""
        ...


async def add(session: Adding, given: object, told: Told | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Take one document in; see `KnowledgeMethods.aadd_knowledge`."""
    operation = await session.asubmit_knowledge(given, **options)
    if told is not None:
        async for progress in operation.aprogress():
            told(progress)
    result: dict[str, Any] = await operation.aresult(options.get("timeout"))
    return result


def add_blocking(session: Adding, given: object, told: Told | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """As `add`; its own, so that `told` is called on the caller's thread."""
    operation = session.submit_knowledge(given, **options)
    if told is not None:
        for progress in operation.progress():
            told(progress)
    result: dict[str, Any] = operation.result(options.get("timeout"))
    return result


async def received(session: Adding, given: object, told: Told | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """What became of one of several: its error is said, and the others go on."""
    try:
        return await add(session, given, told, options)
    except (SessionfleetError, OSError) as error:
        return _failure(given, error)


def received_blocking(session: Adding, given: object, told: Told | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """As `received`, with `told` called on the caller's thread."""
    try:
        return add_blocking(session, given, told, options)
    except (SessionfleetError, OSError) as error:
        return _failure(given, error)


def _failure(given: object, error: Exception) -> dict[str, Any]:
    shown = given if isinstance(given, str) else getattr(given, "name", type(given).__name__)
    return {"source": str(shown)[:200], "status": "failed", "error": str(error), "type": type(error).__name__}
