"""The HTTP edge over `Session`: what any web backend could do, done once (extra `gateway`).

server.py    binds and serves
app.py       assembles the application
routes/      one file per resource
caller.py    the caller, and the caller's sessions
problems.py  errors as problem details
"""
