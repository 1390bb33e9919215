"""The product in fourteen short lessons: read the files in the order of their numbers.

The language model is a double that does what the message says (`tests.support.doubles`): `SAY hello` is its answer,
`CALL tool({...})` a tool call that it makes, `SLEEP 1` how long it thinks. Everything else is real: `fleet` is a Redis
and two worker processes, and a session of it is what a web backend would create with `Session("chat-1")`.
"""
