"""Imported by a worker, it has the worker's turns search through the lane, as turns of earlier versions do."""

from __future__ import annotations

from sessions.protocol.knowledge_requests import Recall

Recall.direct = False
