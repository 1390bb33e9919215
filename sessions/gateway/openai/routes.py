"""The routers of this protocol."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from sessions.gateway.openai.chat.routes import router as chat
from sessions.gateway.openai.conversations.routes import router as conversations
from sessions.gateway.openai.models.routes import router as models
from sessions.gateway.openai.responses.routes import router as responses

ROUTERS: Final[tuple[APIRouter, ...]] = (chat, models, responses, conversations)
