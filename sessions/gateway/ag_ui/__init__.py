"""AG-UI, the protocol between agents and user interfaces: runs on ordered durable turns."""

from sessions.gateway.ag_ui.routes import ROUTERS

__all__ = ["ROUTERS"]
