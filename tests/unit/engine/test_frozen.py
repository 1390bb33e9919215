"""A worker that stood still until its lease had ended: it asks no model and calls no tool."""

from __future__ import annotations

import pytest
from pydantic_ai.messages import TextPart

from sessions.tools.decorator import ToolContext, tool
from tests.unit.engine.doubles import DictJournal, ListSink, Rig, call
from workers.engine import Engine
from workers.engine.ports import LeaseLost


class Frozen(DictJournal):
    """The worker stands still after its first writes, for longer than its lease."""

    writes_before = 1

    def _write(self, key: str, value: bytes, events: object) -> None:
        super()._write(key, value, events)  # type: ignore[arg-type]
        self.lease_ended = len(self.writes) >= self.writes_before


@pytest.mark.parametrize("stream", [False, True])
async def test_no_model_is_asked_after_the_lease_has_ended(rig: Rig, stream: bool) -> None:
    """Another worker may have done the step: a second request would also be paid for."""
    rig.script([TextPart("Paid.")])
    journal = DictJournal(rig.store, rig.events)
    journal.lease_ended = True
    with pytest.raises(LeaseLost):
        await Engine(rig.registry).run(rig.turn(stream=stream), journal, ListSink(rig.events), rig.state)
    assert rig.paid == []


@pytest.mark.parametrize(("retry", "writes"), [("safe", 1), ("never", 1), ("never", 2)])
async def test_no_tool_is_called_after_the_lease_has_ended(rig: Rig, retry: str, writes: int) -> None:
    """A tool that may be repeated is written down only at its end: nothing else would hold it back."""
    called = []

    @tool(retry=retry)  # type: ignore[call-overload]
    def work(ctx: ToolContext) -> str:
        """Work."""
        called.append(ctx.call_id)
        return "done"

    rig.tool(work)
    rig.script([call("work", "c1")], [TextPart("Done.")])
    journal = Frozen(rig.store, rig.events)
    journal.writes_before = writes
    with pytest.raises(LeaseLost):
        await Engine(rig.registry).run(rig.turn(), journal, ListSink(rig.events), rig.state)
    assert called == []
