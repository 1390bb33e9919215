"""The UI message stream protocol of Vercel's AI SDK (`useChat`), on ordered durable turns."""

from sessions.gateway.vercel.routes import ROUTERS

__all__ = ["ROUTERS"]
