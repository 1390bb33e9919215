"""Parses documents: bytes in, `Document` out. The entry point is `reader.read_document`.

This file imports nothing, because the child process that parses documents imports it and has to start fast.
"""
