"""The errors of operations name what the user knows, not the operation's id."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessions.client.result import result_of
from sessions.client.timeout_message import timeout_message
from sessions.errors import DocumentEmpty, EmbeddingFailed, ModelError, TurnFailed
from sessions.protocol.turn import TurnError, TurnStatus
from sessions.store.keys import is_operation
from tests.unit.test_timeout_message import QUEUED

PART = "0192f5c4e8d17e3c8e3c5b7f0a9d4e21"


@pytest.mark.parametrize(
    "lane", ["~base:handbook~knowledge", "~user:ann~memory", "chat~knowledge", "chat~search", "chat~transcript"]
)
def test_the_error_of_an_operation_is_its_message(lane: str) -> None:
    """Of documents, memories, searches and the index of transcripts."""
    for kind, message in ((DocumentEmpty, "'scan.pdf' has no text"), (EmbeddingFailed, "embedding model 'x' failed")):
        record = replace(QUEUED, status=TurnStatus.FAILED, error=TurnError(type=kind.__name__, message=message))
        with pytest.raises(kind) as caught:
            result_of(record, f"{lane}~{PART}", None)
        assert str(caught.value) == message
    assert timeout_message(f"{lane}~{PART}", 3, None).startswith(f"operation '{lane}~{PART}' did not end")


def test_the_error_of_a_turn_names_the_turn() -> None:
    """A session has many of them."""
    record = replace(QUEUED, status=TurnStatus.FAILED, error=TurnError(type="ModelError", message="no"))
    with pytest.raises(ModelError, match=rf"^turn 'chat~{PART}': no$"):
        result_of(record, f"chat~{PART}", None)
    with pytest.raises(TurnFailed, match=rf"^turn 'chat~{PART}': it ended as cancelled"):
        result_of(replace(QUEUED, status=TurnStatus.CANCELLED), f"chat~{PART}", None)
    assert not is_operation(f"chat~{PART}")


def test_a_refused_document_is_a_warning_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is wrong with the worker; other failures keep theirs."""
    from workers.turns.execution import log_failed

    log_failed("chat~knowledge~1", DocumentEmpty("'scan.pdf' has no text"))
    log_failed("chat~1", TurnFailed("the agent raised KeyError"))
    refused, broke = caplog.records
    assert refused.levelname == "WARNING"
    assert "has no text" in refused.getMessage()
    assert not refused.exc_info
    assert broke.exc_info
