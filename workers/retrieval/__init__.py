"""Retrieval: turns documents into chunks and vectors, and searches memory and knowledge. Start reading at `ports`."""
