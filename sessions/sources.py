"""`Address` and `Text`: tell `add_knowledge` what a string is, instead of letting it guess."""

from sessions.client.arguments.documents import Address, Text

__all__ = ["Address", "Text"]
