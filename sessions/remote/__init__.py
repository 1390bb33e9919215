"""The back end of remote sessions, `Session(agent_url=...)`, over HTTP.

backend.py: the back end; state.py, lifecycle.py, memory.py, knowledge.py: its parts, over a gateway's REST API
client.py: one session's requests and turns; wire.py: requests and turns as JSON; problems.py: error responses
address.py: URLs and headers; server.py: requests to a server, and what kind of server it is
exchange.py: one call with its retries; network.py: event loop and connections; stream.py, sse.py: a turn's events
"""
