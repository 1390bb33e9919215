"""Reads Word documents."""

from workers.retrieval.documents.word.document import read_docx

__all__ = ["read_docx"]
