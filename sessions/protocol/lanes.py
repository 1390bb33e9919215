"""The lanes of a session, and how long their contents are kept."""

from __future__ import annotations

from typing import Final

KNOWLEDGE: Final = "knowledge"
"""The lane in which a scope's documents are added and removed, one after the other."""

SEARCH: Final = "search"
"""The lane of a session's searches: a search never waits for a document."""

MEMORY: Final = "memory"
"""The lane in which vectors are computed for a scope's memories."""

FACTS: Final = "facts"
"""The lane in which a model extracts facts from ended turns."""

WEBHOOKS: Final = "webhooks"
"""The lane that delivers the webhooks of ended turns."""

TITLES: Final = "title"
"""The lane in which a model writes the session's title."""

ARCHIVE: Final = "archive"
"""The lane that writes committed turns to the archive."""

TRANSCRIPT: Final = "transcript"
"""The lane in which the search index of a session's transcript follows its history."""

COMPACT: Final = "compact"
"""The lane in which a model summarises what has left the window of the history."""

LANES: Final = (KNOWLEDGE, SEARCH, MEMORY, FACTS, WEBHOOKS, TITLES, ARCHIVE, TRANSCRIPT, COMPACT)

SEARCH_TTL: Final = 60.0
"""Seconds that the result of a search is kept: it is read at once, and contains people's texts."""

LANE_TTL: Final = 3600.0
"""Seconds that a lane without open turns is kept, if it has nothing that must stay."""
