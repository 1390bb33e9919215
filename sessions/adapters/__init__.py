"""Session objects for agents of other libraries, which run in your own process: their conversations are sessions.

`sessions.adapters.pydantic_ai`, `sessions.adapters.openai_agents` and `sessions.adapters.google_adk` each need their
library, which is imported with the module. Everything in here uses the fleet's store directly; no worker is needed.
"""
