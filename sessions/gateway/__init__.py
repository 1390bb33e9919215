"""The HTTP edge over `Session`: what any web backend could do, done once (extra `gateway`).

server.py  binds and serves         app.py     puts it together         routes/     one file for each resource
caller.py  who asks, and the sessions that are theirs                   problems.py errors as problem details
"""
