"""Search in the transcripts of sessions: an index that follows each searchable session's history; see `search`."""
