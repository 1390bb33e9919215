"""The usual recipe of many backends, for comparison. It keeps none of the promises P1 to P6 (docs/protocol.md).

A plain Celery task in the threads pool, a redis-py lock for each session, the history as JSON in one Redis key, the
answer through Celery's result backend, and `agent.run_sync`. Celery's options are its defaults.
"""

from __future__ import annotations

import os

import redis
from celery import Celery
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessagesTypeAdapter

from benchmarks.doubles import INSTRUCTIONS, instant

URL = os.environ.get("USUAL_RECIPE_URL", "redis://127.0.0.1:6379/0")

app = Celery("usual", broker=URL, backend=URL)
app.conf.update(
    task_default_queue="usual",
    # With the default of 10, the producer's threads would wait for one another.
    broker_pool_limit=32,
)
agent = Agent(instant, instructions=INSTRUCTIONS)
store = redis.Redis.from_url(URL)


@app.task
def noop() -> str:
    """Nothing: the cost of Celery itself."""
    return "ok"


@app.task
def chat(session_id: str, message: str) -> str:
    """One turn."""
    key = f"usual:{session_id}"
    with store.lock(f"{key}:lock", timeout=60):
        raw = store.get(key)
        history = ModelMessagesTypeAdapter.validate_json(raw) if raw else None  # type: ignore[arg-type]
        result = agent.run_sync(message, message_history=history)
        store.set(key, result.all_messages_json())
    return result.output
