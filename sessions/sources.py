"""Explicit types for documents, if it should not be guessed what they are: `Address` and `Text`."""

from sessions.client.arguments.documents import Address, Text

__all__ = ["Address", "Text"]
