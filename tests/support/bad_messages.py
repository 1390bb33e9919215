"""Messages in the broker that are not wake-ups: what another program, or a person who experiments, may write."""

from __future__ import annotations

import base64
import json
import uuid

from broker_config.celery_options import BROKER_PREFIX, celery_options
from broker_config.settings import Settings


def _envelope(**changes: object) -> str:
    """A message as kombu writes it, with parts that are wrong."""
    body = base64.b64encode(json.dumps([["not a session", "no time"], {}, {}]).encode()).decode()
    properties = {"delivery_tag": uuid.uuid4().hex, "delivery_info": {}, "body_encoding": "base64"}
    headers = {"task": "sessionfleet.run_session", "id": uuid.uuid4().hex, "lang": "py"}
    message = {"body": body, "content-type": "application/json", "content-encoding": "utf-8", "headers": headers}
    return json.dumps({**message, "properties": properties} | changes)


BAD_MESSAGES = [
    "null", "[]", "{}", "7", '"text"', "not json", b"\xff\xfe", "[" * 100_000,
    '{"properties": 1}', '{"properties": {}}', '{"__type__": "decimal", "__value__": "x"}',
    _envelope(), _envelope(body=None), _envelope(body="no base64"), _envelope(headers=None), _envelope(headers=[1]),
    _envelope(headers={"task": "unknown.task", "id": "1"}), _envelope(**{"content-type": "application/x-pickle"}),
]  # fmt: skip


def remote_control(settings: Settings) -> str:
    """The channel by which Celery's remote control reaches all workers, in database 0."""
    return f"{BROKER_PREFIX}/0.{celery_options(settings)['control_exchange']}.pidbox"
