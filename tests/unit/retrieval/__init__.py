"""Retrieval part by part; the index on its real engines, the server as a loopback double."""
