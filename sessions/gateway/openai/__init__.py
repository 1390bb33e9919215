"""OpenAI's protocol: chat completions, models, responses and conversations, on ordered durable turns."""

from sessions.gateway.openai.errors import ERROR_FORM
from sessions.gateway.openai.routes import ROUTERS

__all__ = ["ERROR_FORM", "ROUTERS"]
