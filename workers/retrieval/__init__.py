"""Retrieval: documents to chunks to vectors, and searching memory and knowledge. A role of its own; see `ports`."""
