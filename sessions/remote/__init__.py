"""Sessions of another process: `Session(agent_url=...)` over HTTP.

backend.py   the session                  client.py    turns of a gateway       network.py   loop and connections
address.py   where it is, credentials     server.py    what kind of server      exchange.py  one call with its tries
stream.py, sse.py  a turn's events        wire.py      orders and turns as JSON problems.py  answers that are errors
state.py, lifecycle.py, memory.py, knowledge.py   what the session's methods stand on, by a gateway's REST API
"""

from sessions.remote.backend import RemoteSession

__all__ = ["RemoteSession"]
