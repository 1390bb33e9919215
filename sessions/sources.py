"""What a document may be given as, where it should not be guessed: `Address` and `Text`."""

from sessions.client.arguments.documents import Address, Text

__all__ = ["Address", "Text"]
