"""Documents: bytes in, `Document` out; `reader.read_document` is the way in.

This file imports nothing: the child process that reads documents comes through here, and has to start fast.
"""
