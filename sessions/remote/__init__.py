"""Sessions behind a server: the back end of `Session(agent_url=...)`, over HTTP.

backend.py: the back end; state.py, lifecycle.py, memory.py, knowledge.py: its parts, by a gateway's REST API
client.py: one session's requests and turns; wire.py: requests and turns as JSON; problems.py: error responses
address.py: where a server is, credentials; server.py: what kind of server it is
exchange.py: one call with its retries; network.py: loop and connections; stream.py, sse.py: a turn's events
"""
