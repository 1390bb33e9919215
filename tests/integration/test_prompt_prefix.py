"""Each model request begins with the one before it, so that providers' prompt caches are used."""

from __future__ import annotations

import uuid
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from benchmarks.prompt_prefix import KINDS, Talk, shares
from broker_config.settings import Settings
from tests.support.fleet import Fleet, running_fleet
from tests.support.openai_server import OpenAIServer
from tests.support.servers import Server
from tests.support.waiting import wait_until
from workers.engine.recalled import split_recalled


@pytest.mark.parametrize("kind", ["no memory, no knowledge", "memory and knowledge"])
async def test_nine_tenths_of_a_request_were_sent_before(server: Server, kind: str) -> None:
    """On average over 60 turns, of which some were resumed after kill -9."""
    talk = Talk(turns=60, tool_each=3, recalled=KINDS[kind], killed=(11, 30, 49))
    found = await shares(Settings(redis_url=server.url), talk)
    assert len(found.each) + 1 == 60 + 60 // 3 + 3, "those that were killed asked once more"
    assert mean(found.each) >= 0.9
    assert found.bytes >= 0.9


def test_workers_keep_it_over_kill_9(server: Server, tmp_path: Path) -> None:
    """With memory: a request is the one before, its answer and the message; the resumed turn sends the same again."""
    with OpenAIServer() as provider:
        env = {
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": "none",
            "SESSIONFLEET_QUEUES": "turns.prefix,retrieval",
        }
        with running_fleet(tmp_path, server, {"SESSIONFLEET_LEASE": "1"}, workers={"first": env}) as fleet:
            session = fleet.session(uuid.uuid4().hex, queue="turns.prefix")
            session.add_memory("The user likes otters")
            agent = session.Agent("A", model="openai-chat:x", memory=True, instructions="Be kind.")
            for number in range(2):
                assert agent.chat(f"{number}: what do I like?", timeout=60).startswith("you said")
            turn = agent.submit("HANG otter: what do I like?")
            wait_until(lambda: "otter" in provider.hung, description="the model is asked", timeout=30)
            fleet.workers[0].kill()
            fleet.start("second", **env)
            assert turn.result(timeout=60).startswith("you said")
            agent.chat("and at last?", timeout=60)
            session.delete()
        provider.shutdown()
    sent = [request["messages"] for request in provider.requests]
    assert sent[2] == sent[3], "the turn whose worker was killed asks the same again"
    for before, after in pairwise(sent[:3] + sent[4:]):
        assert after[: len(before)] == _as_history(before)
    tools = [request["tools"] for request in provider.requests]
    assert all(each == tools[0] for each in tools)


def test_a_conversation_with_too_many_tokens_loses_its_oldest_turns(fleet: Fleet) -> None:
    """After the turn that had them, by what its model counted; the history keeps everything."""
    session = fleet.session(uuid.uuid4().hex)
    agent = session.Agent("A", model="double")
    agent.chat("the first words\nSAY one")
    agent.chat("many words: " + "otter " * 40_000 + "\nSAY two")
    seen = agent.chat("RECITE")
    assert "many words" in seen
    assert "the first words" not in seen
    assert [m.text[:15] for m in session.history() if m.role == "user"] == [
        "the first words",
        "many words: ott",
        "RECITE",
    ]
    session.delete()


def _as_history(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages as the next turn's request has them: without what was found for the last one."""
    message, recalled = split_recalled(messages[-1]["content"])
    assert "likes otters" in recalled
    return [*messages[:-1], {**messages[-1], "content": message}]
