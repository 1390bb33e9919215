"""The lanes that stand next to a session's turns, and how long what is in them lives."""

from __future__ import annotations

from typing import Final

KNOWLEDGE: Final = "knowledge"
"""The lane in which a scope's documents are taken in and removed, one after the other."""


SEARCH: Final = "search"
"""The lane of a session's searches: none waits behind a document."""


MEMORY: Final = "memory"
"""The lane in which vectors are made for a scope's memories."""


FACTS: Final = "facts"
"""The lane in which a model takes facts from turns that have ended."""


WEBHOOKS: Final = "webhooks"
"""The lane from which the ends of turns are told."""


LANES: Final = (KNOWLEDGE, SEARCH, MEMORY, FACTS, WEBHOOKS)


# What a search found is read at once, and holds people's texts: it does not stay for a week.
SEARCH_TTL: Final = 60.0


LANE_TTL: Final = 3600.0
