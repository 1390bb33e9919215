"""Reads HTML: pages, and HTML within other documents."""

from workers.retrieval.documents.html.page import read_fragment, read_html

__all__ = ["read_fragment", "read_html"]
